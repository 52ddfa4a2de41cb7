"""Shell completion: a script that knows the commands, the shipped configs and the settings.

The script holds everything, so that a key press starts no program. shtab, once installed, would
have jsonargparse add its own flag to every command.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module

from pne_seg.cli import TRAINER_VERBS, VERBS, fail
from pne_seg.cli.arguments import GROUPS, top_level_keys
from pne_seg.cli.mistyped import INTERNAL
from pne_seg.cli.signatures import arguments, public_classes
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
    if verb not in TRAINER_VERBS:
        parser = import_module(f"pne_seg.cli.{verb.replace('-', '_')}").build_parser()
        options = [flag for action in parser._actions for flag in action.option_strings]
        keys = {flag for flag in options if flag.startswith("--")}
    else:
        keys = top_level_keys(verb) | _keys_of(GROUPS) | _keys_of({"model.contrast": "pne_seg.PNE"})
    if verb == "sweep":
        keys |= _flags("fit")  # they go to every cell
    if verb in (*TRAINER_VERBS, "check-data"):
        names = public_classes("pne_seg.data")
        keys |= {"data"}.union(*(_keys_of({"data": f"pne_seg.data.{name}"}) for name in names))
    flags = {key if key.startswith("--") else f"--{key}" for key in keys - INTERNAL}
    return {flag for flag in flags if not flag.endswith("+")}


def _keys_of(classes: Mapping[str, str]) -> set[str]:
    return {f"{key}.{name}" for key, path in classes.items() for name in arguments(path) or {}}


def _lines(words: Iterable[str]) -> str:
    return "\\n".join(sorted(words))
