"""The command line: `python cli.py VERB …`, or `pne-seg VERB …` once installed.

    fit        train, and score after every epoch
    validate   score a trained network on the validation split
    test       score it on the test split
    predict    write its predictions for images, videos or the test split
    export     write a trained network as safetensors, ONNX and torch.export
    sweep      train and test arms with seeds, and compare them
    compare    compare finished runs: arms, seeds, intervals
    check-data decode every file of a data set, and report on it
    models     show which methods and encoders go together, with their numbers

`python cli.py VERB --help` lists a verb's settings. With PNE_SEG_TRACEBACK=1 in the environment
every error comes with its traceback.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pne_seg.cli.command import SegmentationCLI

VERBS = ("fit", "validate", "test", "predict", "export", "sweep", "compare", "check-data", "models")

_MODULES = {
    "export": "export",
    "sweep": "sweep",
    "compare": "compare",
    "check-data": "check_data",
    "models": "models",
}
"""Where the verbs that need no trainer are; the others are in `running`."""


def main(args: Sequence[str] | None = None) -> "SegmentationCLI | None":
    """Run one command.

    Args:
        args: verb and settings, as on the command line; `sys.argv` where not given.

    Returns:
        The command that ran, with `trainer`, `model`, `datamodule` and `run_folder`, for notebooks;
        None after `export`, `sweep`, `compare`, `check-data`, `models` and the help.

    Raises:
        SystemExit: code 2 after a mistake in the input, or where disk or memory ran out, which is
            printed in a few lines; code 1 where `check-data` finds errors, `predict` could not read
            or write a file, or an export does not agree with its network; code 130 where the user
            stopped it.
        Exception: a mistake in code that runs, with a note on where it was raised.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(__doc__)
        return None
    verb = args[0]
    if verb not in VERBS:
        import difflib  # only on the way to an error

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(
            f"error: {verb!r} is no command.{hint} There are {', '.join(VERBS)}.", file=sys.stderr
        )
        raise SystemExit(2)
    try:
        Path.cwd()
    except OSError as error:
        print(
            f"error: The working directory is gone ({error.strerror}). Change to another one.",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    # Loaded late: these packages take seconds, and help and typos need none of them.
    if verb in _MODULES:
        import_module(f"pne_seg.cli.{_MODULES[verb]}").run(args[1:])
        return None
    from pne_seg.cli.running import run

    return run(verb, args[1:])


def console() -> None:
    """Entry point of the installed `pne-seg`, whose return value would become the exit code."""
    main()
