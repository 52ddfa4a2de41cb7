"""The command line: `pne-seg VERB …`.

    fit        train, and score after every epoch
    validate   score a trained network on the validation split
    test       score it on the test split
    predict    write its predictions for images, videos or the test split
    export     write a trained network as safetensors, ONNX and torch.export
    sweep      train and test arms with seeds, and compare them
    compare    compare finished runs: arms, seeds, intervals
    check-data decode every file of a data set, and report on it
    models     show which methods and encoders go together, with their numbers
    configs    list the shipped configs, or copy one to edit

`pne-seg VERB --help` lists a verb's settings. With PNE_SEG_TRACEBACK=1 in the environment
every error comes with its traceback. `pne-seg --print_completion bash` (or zsh) prints a script
that completes commands, configs and settings.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pne_seg.errors import nearest

if TYPE_CHECKING:
    from pne_seg.cli.result import Result

TRAINER_VERBS = ("fit", "validate", "test", "predict")
VERBS = (*TRAINER_VERBS, "export", "sweep", "compare", "check-data", "models", "configs")

PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "segmentation_models_pytorch", "timm"),
    *("huggingface_hub", "jinja2", "safetensors", "albumentations", "cv2", "imagecodecs"),
    *("filelock", "jsonargparse", "docstring_parser", "matplotlib", "numpy", "PIL", "yaml"),
    *("pycocotools", "tqdm", "rich"),
)
"""What the dependencies in pyproject.toml are imported as."""


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
        print((__doc__ or "").replace("pne-seg", program()))
        return None
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        more = f" and {len(missing) - 1} more packages" if len(missing) > 1 else ""
        fail(
            f"{sys.executable} has no {missing[0]}{more}. Activate the project's environment, or "
            "install it: pip install -e ."
        )
    if args[0].partition("=")[0] == "--print_completion":
        from pne_seg.cli.completion import completion_script

        print(completion_script("".join([*args[0].partition("=")[2:], *args[1:]])), end="")
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
    folder: Path | None = None
    rest: list[str] | None = args[1:]
    try:
        if verb in TRAINER_VERBS:
            rest = answer(verb, args[1:])
        else:
            folder = import_module(f"pne_seg.cli.{verb.replace('-', '_')}").run(args[1:])
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        from pne_seg.cli.failures import Failing, report

        report(error, Failing(verb))
        raise
    if rest is None or (verb not in TRAINER_VERBS and folder is None):
        return None
    with loading():
        from pne_seg.cli.result import Result

        if folder is not None:
            return Result(verb, folder)
        from pne_seg.cli.running import run
    command = run(verb, rest)
    return Result(verb, command.run_folder, command)


@contextmanager
def loading() -> Iterator[None]:
    """Import packages without garbage collection, which takes a fifth of the time.

    Not in a program that has loaded PyTorch: its objects would be left out of later collections.
    """
    is_new = gc.isenabled() and "torch" not in sys.modules
    if is_new:
        gc.disable()
    try:
        yield
    finally:
        if is_new:
            gc.enable()
            gc.freeze()  # otherwise the first collection would examine all of it


def answer(verb: str, args: list[str]) -> list[str] | None:
    """Print help, report mistyped keys; return the parser's arguments, None after the help."""
    from pne_seg.cli.arguments import top_level_keys
    from pne_seg.cli.help import show_help
    from pne_seg.cli.mistyped import check_keys
    from pne_seg.cli.settings import Settings

    settings = Settings.of(args)
    settings.load()
    if any(override.key == "help" for override in settings.overrides):
        return show_help(verb, settings) or None
    check_keys(settings, top_level_keys(verb))
    return args


def console() -> None:
    """Entry point of the installed `pne-seg`, whose return value would become the exit code."""
    if not sys.flags.safe_path and "" not in sys.path:
        sys.path.append("")  # the working directory, for the user's own modules
    main()


def program() -> str:
    """Return how the user types the command line: `python cli.py` in a checkout, or `pne-seg`."""
    return "python cli.py" if Path(sys.argv[0]).name == "cli.py" else "pne-seg"


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 2."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
