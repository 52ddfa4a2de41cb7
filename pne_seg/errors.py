"""The error of what a user can fix, and suggestions of valid names."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something in the user's files or settings is not valid.

    The message names the file, key or value and says how to fix it; the command line prints it
    without a traceback.
    """


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelled most like a name, None if none comes near."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_setting(flag: str, candidates: Iterable[str]) -> str:
    """Return the message on a flag that is none of the candidates."""
    near = nearest(flag, candidates)
    hint = f"The nearest is {near}." if near else "`--help` lists the settings."
    return f"There is no setting {flag}.\n  {hint}"
