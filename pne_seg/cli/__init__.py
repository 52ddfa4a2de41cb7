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
from typing import TYPE_CHECKING, NoReturn

from pne_seg.errors import nearest

if TYPE_CHECKING:
    from pne_seg.cli.result import Result

VERBS = ("fit", "validate", "test", "predict", "export", "sweep", "compare", "check-data", "models")
_TRAINER_VERBS = VERBS[:4]


def main(args: Sequence[str] | None = None) -> "Result | None":
    """Run one command.

    Args:
        args: verb and settings, as on the command line; `sys.argv` by default.

    Returns:
        For notebooks, what the command did: `run_folder`, `scores` (a DataFrame) and `figures`;
        after fit, validate, test and predict also `trainer`, `model` and `datamodule`. None after
        sweep, compare and models, and after the help.

    Raises:
        SystemExit: code 2 after a mistake in the input, or if disk or memory ran out; 1 if
            `check-data`, `predict`, `export` or `sweep` ended but found errors; 130 if stopped.
        Exception: a mistake in code, with a note on where it was raised.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(__doc__)
        return None
    verb = args[0]
    if verb not in VERBS:
        near = nearest(verb, VERBS)
        hint = f" Did you mean {near}?" if near else ""
        fail(f"{verb!r} is no command.{hint} There are {', '.join(VERBS)}.")
    try:
        Path.cwd()
    except OSError as error:
        fail(f"The working directory is gone ({error.strerror}). Change to another one.")
    # Loaded late: these packages take seconds, and help and typos need none of them.
    if verb not in _TRAINER_VERBS:
        try:
            folder = import_module(f"pne_seg.cli.{verb.replace('-', '_')}").run(args[1:])
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception as error:
            from pne_seg.cli.failures import Failing, report

            report(error, Failing(verb))
            raise
        if folder is None:
            return None
        from pne_seg.cli.result import Result

        return Result(verb, folder)
    from pne_seg.cli.result import Result
    from pne_seg.cli.running import run

    command = run(verb, args[1:])
    return Result(verb, command.run_folder, command)


def console() -> None:
    """Entry point of the installed `pne-seg`, whose return value would become the exit code."""
    main()


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 2."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
