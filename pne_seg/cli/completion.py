"""Shell completion: a script that knows the commands, the shipped configs and the settings.

It is written once and holds everything, as asking the parsers takes seconds. argcomplete would ask
them at every key; shtab, once installed, would have jsonargparse add its own flag to every command.
"""

from collections.abc import Iterable
from importlib import import_module

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

import pne_seg.data
from pne_seg.cli import TRAINER_VERBS, VERBS, fail
from pne_seg.cli.command import SegmentationCLI
from pne_seg.cli.parser import INTERNAL, settings_of
from pne_seg.shipped_configs import shipped_configs

_SCRIPT = """\
_pne_seg() {{
    local IFS=$'\\n' verb=${{COMP_WORDS[1]}} word=${{COMP_WORDS[COMP_CWORD]}}
    local before=${{COMP_WORDS[COMP_CWORD-1]}} words="" files=""
    if [[ $word == "=" ]]; then word=""; fi
    if [[ $before == "=" ]]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    if [[ $COMP_CWORD == 1 ]]; then
        words=$'{verbs}'
    elif [[ $before == --config || $before == -c || ($verb == configs && $word != -*) ]]; then
        words=$'{configs}'
        files=$(compgen -f -- "$word")
    elif [[ $word == -* ]]; then
        case $verb in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word") $files)
}}
complete -o default -F _pne_seg pne-seg
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


class _BuiltError(Exception):
    """Carries the parser of a verb out of LightningCLI, which builds it on the way to a run."""


class _ParserOnly(SegmentationCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        raise _BuiltError(parser)


def completion_script(shell: str) -> str:
    """Return the script for bash or zsh."""
    if shell not in ("bash", "zsh"):
        fail(f"--print_completion {shell}: expected bash or zsh.")
    cases = [f"            {verb}) words=$'{_lines(_flags(verb))}' ;;" for verb in VERBS]
    script = _SCRIPT.format(
        verbs=_lines(VERBS), configs=_lines(shipped_configs()), cases="\n".join(cases)
    )
    return (_ZSH if shell == "zsh" else "") + script


def _flags(verb: str) -> set[str]:
    """Return a verb's flags; of the classes in its slots, those of the data sets and of PNE."""
    parser: ArgumentParser
    if verb in TRAINER_VERBS:
        try:
            _ParserOnly(verb, ["--help"])
        except _BuiltError as built:
            parser = built.args[0]
    else:
        parser = import_module(f"pne_seg.cli.{verb.replace('-', '_')}")._parser()
    flags = {flag for action in parser._actions for flag in action.option_strings}
    if "--data" in flags:
        flags |= {f"--data.{key}" for name in pne_seg.data.__all__ for key in settings_of(name)}
    if "--model.contrast" in flags:
        flags |= {f"--model.contrast.{key}" for key in settings_of("pne_seg.PNE")}
    if verb == "sweep":
        flags |= _flags("fit")  # they go to every cell
    hidden = {f"--{key}" for key in INTERNAL}
    return {flag for flag in flags - hidden if flag.startswith("--") and not flag.endswith("+")}


def _lines(words: Iterable[str]) -> str:
    return "\\n".join(sorted(words))
