"""The argument parser, whose errors name the key and the nearest valid one in a few lines."""

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pne_seg.cli.mistakes import find_mistake, nearest
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError

ALLOW_HELP = (
    "Module or package that settings may name classes and functions of, beside those of this "
    "project (and, in a config of your own, your modules); it may be given several times."
)
_LINES = 4
_LINE = 300  # characters


class Parser(LightningArgumentParser):
    """LightningCLI's parser without abbreviations, raising `UserError` in place of a usage wall."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"allow_abbrev": False, "exit_on_error": False, **kwargs}
        super().__init__(*args, **kwargs)

    def parse(self, settings: Settings) -> Namespace:
        """Parse settings; what they may not name is neither imported nor left in them.

        Raises:
            UserError: a mistake in the settings.
        """
        with settings.enforced():
            try:
                config: Namespace = self.parse_args(settings.arguments())
            except ArgumentError as error:
                mistake = find_mistake(self, settings) or _beginning(str(error))
                raise UserError(mistake) from error
            settings.imports.check(config)
        return config

    def parse_flags(self, args: Sequence[str]) -> Namespace:
        """Parse the flags of a command without a configuration of its own.

        Raises:
            UserError: a flag is unknown, or its value is not valid.
        """
        try:
            config: Namespace = self.parse_args(args)
        except ArgumentError as error:
            flags = [part.partition("=")[0] for part in args if part.startswith("--")]
            known = self._option_string_actions
            if unknown := next((flag for flag in flags if flag not in known), None):
                near = nearest(unknown, known)
                hint = f"The nearest is {near}." if near else "`--help` lists the settings."
                raise UserError(f"There is no setting {unknown}.\n  {hint}") from error
            raise UserError(_beginning(str(error))) from error
        return config


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 2."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def _beginning(message: str) -> str:
    """The first lines of a long message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "\n  ".join(line[:_LINE] for line in lines[:_LINES])
