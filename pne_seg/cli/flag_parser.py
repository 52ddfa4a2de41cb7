"""The parser of commands whose flags are all their own: compare, configs, models and sweep."""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from pne_seg.cli import fail, program
from pne_seg.errors import unknown_setting


class FlagParser(argparse.ArgumentParser):
    """argparse's parser without abbreviations, with errors in one line or two."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(
            f"{program()} {verb}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse(self, args: Sequence[str]) -> argparse.Namespace:
        """Parse the flags; there must be no others."""
        given, unknown = self.parse_known_args(args)
        if unknown and unknown[0].startswith("-"):
            fail(unknown_setting(unknown[0].partition("=")[0], self._option_string_actions))
        if unknown:
            fail(f"{unknown[0]!r} belongs to no option.")
        return given

    def error(self, message: str) -> NoReturn:
        """Leave without the usage, which --help prints."""
        fail(re.sub(r"^argument (\S+): ", r"\1 ", message))
