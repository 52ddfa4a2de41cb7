"""The argument parser, whose errors name the key and the nearest valid one in a few lines."""

from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pne_seg.cli.mistakes import find_mistake
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError, unknown_setting

ALLOW_HELP = (
    "Module or package that settings may name classes and functions of, beside those of this "
    "project (and, in a config of your own, your modules); it may be given several times."
)
_LINES = 4
_LINE = 300  # characters


class Parser(LightningArgumentParser):
    """LightningCLI's parser without abbreviations, raising `UserError` in place of a usage wall."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})

    def parse(self, settings: Settings) -> Namespace:
        """Parse settings; what they may not name is neither imported nor left in them."""
        with settings.enforced():
            try:
                config: Namespace = self.parse_args(settings.arguments())
            except ArgumentError as error:
                raise UserError(find_mistake(self, settings) or _beginning(error)) from error
            settings.imports.check(config)
        return config

    def parse_flags(self, args: Sequence[str]) -> Namespace:
        """Parse the flags of a command without a configuration of its own."""
        try:
            config: Namespace = self.parse_args(args)
        except ArgumentError as error:
            flags = [part.partition("=")[0] for part in args if part.startswith("--")]
            known = self._option_string_actions
            unknown = next((flag for flag in flags if flag not in known), None)
            raise UserError(
                unknown_setting(unknown, known) if unknown else _beginning(error)
            ) from error
        return config


def _beginning(error: ArgumentError) -> str:
    """Return the first lines of a long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join(line[:_LINE] for line in lines[:_LINES])
