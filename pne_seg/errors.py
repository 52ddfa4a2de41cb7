"""The error of what a user can fix, and suggestions of valid names."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class UserError(ValueError):
    """Something in the user's files or settings is not valid.

    The message names the file, key or value and says how to fix it; the command line prints it
    without a traceback.
    """


@dataclass(frozen=True)
class Fix:
    """Arguments of a data set that fix something, and when or what for, such as `to ignore it`."""

    purpose: str
    arguments: dict[str, Any] = field(default_factory=dict)


def as_arguments(arguments: Mapping[str, Any]) -> str:
    """Write arguments as in Python, such as `pass ignore_values=[11]`."""
    return "pass " + " and ".join(f"{name}={value!r}" for name, value in arguments.items())


def with_fixes(
    message: str,
    fixes: Sequence[Fix],
    written: Callable[[Mapping[str, Any]], str] = as_arguments,
) -> str:
    """Add fixes to a message, which ends without a full stop if there are any."""
    if not fixes:
        return message
    end = "." if written is as_arguments else ""  # what is pasted must not end in one
    texts = [f"{fix.purpose}, {written(fix.arguments)}" for fix in fixes]
    return f"{'; '.join([message, *texts])}{end}"


class DataError(UserError):
    """Something in files of a data set is not valid, and arguments of the data set may fix it.

    Args:
        message: as with any error, but without the arguments and a full stop if there are fixes.
        fixes: these arguments.
        files: all files that it is about, if not only the one that the message names.
        cause: what it may have in common with errors in other files.
    """

    def __init__(
        self,
        message: str,
        fixes: Sequence[Fix] = (),
        files: Sequence[str] = (),
        cause: object = None,
    ) -> None:
        super().__init__(message, fixes, files, cause)
        self.message = message
        self.fixes = fixes
        self.files = files
        self.cause = cause

    def text(self, written: Callable[[Mapping[str, Any]], str] = as_arguments) -> str:
        """Return the whole message, with the arguments as `written` writes them."""
        return with_fixes(self.message, self.fixes, written)

    def __str__(self) -> str:
        return self.text()


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelled most like a name, None if none comes near."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_setting(flag: str, candidates: Iterable[str]) -> str:
    """Return the message on a flag that is none of the candidates."""
    near = nearest(flag, candidates)
    hint = f"The nearest is {near}." if near else "`--help` lists the settings."
    return f"There is no setting {flag}.\n  {hint}"
