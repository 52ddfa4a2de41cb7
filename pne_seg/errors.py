"""Errors that are the input's, not the program's."""


class UserError(ValueError):
    """Something in the user's files or settings is not as it must be.

    The message names the file, key or value and says how to mend it; the command line prints it
    without a traceback.
    """
