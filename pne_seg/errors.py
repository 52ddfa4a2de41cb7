"""The error of what a user can fix."""


class UserError(ValueError):
    """Something in the user's files or settings is not valid.

    The message names the file, key or value and says how to fix it; the command line prints it
    without a traceback.
    """
