"""export: write a run's network as safetensors, ONNX and torch.export, with a model card."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pne_seg.cli.failures import Failing, report
from pne_seg.cli.parser import ALLOW_HELP, Parser
from pne_seg.cli.settings import Settings
from pne_seg.cli.start import WEIGHTS_HELP, weights_to_score
from pne_seg.errors import UserError
from pne_seg.export.hub_upload import check_push, is_public, push
from pne_seg.export.output_folder import check_output
from pne_seg.export.writer import (
    DisagreementError,
    Exported,
    check_packages,
    export,
    missing_packages,
    preview_of,
)
from pne_seg.exported import CARD, FORMATS, NEW_CARD, PREVIEW
from pne_seg.runs import Evaluated
from pne_seg.trained import Trained, load_trained

_DESCRIPTION = """\
Write a trained network for use elsewhere: its weights, ONNX and torch.export with everything
inside, and a model card. What was written is compared with the network; exit code 1 if it returns
something else."""

_OUTPUT = "RUN/export/CHECKPOINT"


def run(args: Sequence[str]) -> None:
    """Export a network and print what was written.

    Args:
        args: as on the command line, without the verb.

    Raises:
        SystemExit: code 1 if a file returns other logits than the network, 2 after a mistake in
            the input, which is printed in a few lines, 130 if the user stopped it.
    """
    try:
        _run(args)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        report(error, Failing("export"))
        raise


def _run(args: Sequence[str]) -> None:
    args = _with_pairs_joined(args)
    imports = Settings.of(args).imports  # bounds of the values, too
    config = _parser().parse_flags(args)  # a mistyped key is told before the run is looked for
    formats = _formats(config.formats)
    size = None if config.size is None else _size(config.size)
    if not config.output.strip():
        raise UserError("--output needs a path.")
    if config.push is not None:
        check_push(config.push)
    settings = Settings.of(_of_run(args))
    evaluated = weights_to_score(settings)
    assert evaluated is not None  # but for --help, which has ended
    output = _output(config.output, evaluated)
    check_output(output)
    check_packages(formats)
    if evaluated.source is None:
        trained = load_trained(evaluated.file, imports=replace(imports, own=False))
    else:
        trained = load_trained(evaluated.source, settings.config, imports)
        _progress(trained.loaded)
    preview = _with_preview(config.preview, config.push, config.public, evaluated.file)
    done = export(trained, output, formats, size, say=_progress, with_preview=preview)
    print(_report(trained, done))
    if NEW_CARD in done.files:
        _progress(f"{CARD} was edited and is kept; the new card is {NEW_CARD}.")
        if PREVIEW not in done.files and PREVIEW in (output / CARD).read_text(errors="replace"):
            _progress(f"{CARD} names {PREVIEW}, which is not there: take the line out.")
    if config.push is not None:
        print(f"Uploaded to {push(output, config.push, config.public)}")


def _parser() -> Parser:
    parser = Parser(prog="cli.py export", description=_DESCRIPTION)
    parser.add_argument(
        "-c", "--config", type=str, help="Its newest run is meant, or --weights for it."
    )
    parser.add_argument("--name", type=str | None, help="The run's name, by default the config's.")
    parser.add_argument("--run", type=str | None, help="Run folder: config and best weights.")
    parser.add_argument(
        "--ckpt_path", type=str | None, help="Checkpoint, in a run's folder, in place of the best."
    )
    parser.add_argument("--weights", type=str | None, help=WEIGHTS_HELP)
    parser.add_argument("--allow", type=str | None, help=ALLOW_HELP)
    parser.add_argument(
        "--output", type=str, default=_OUTPUT, help="Folder: new, or of an earlier export."
    )
    parser.add_argument(
        "--formats",
        type=list[str] | str | None,
        help=f"Which of {', '.join(FORMATS)}; by default all that the installed packages allow.",
    )
    parser.add_argument(
        "--size",
        type=str | None,
        help="Fix the graphs at this [HEIGHT, WIDTH]; by default any size, if possible.",
    )
    parser.add_argument(
        "--push", type=str | None, help="Upload to this repository of the Hugging Face hub."
    )
    parser.add_argument(
        "--public", type=bool, default=False, help="Whether a new repository is public."
    )
    parser.add_argument(
        "--preview",
        type=bool | None,
        help="Whether to include the run's picture, which shows validation images; by default "
        "unless the upload is public.",
    )
    return parser


def _with_pairs_joined(args: Sequence[str]) -> list[str]:
    """`--size H W` as `--size=[H, W]`."""
    joined: list[str] = []
    rest = list(args)
    while rest:
        token = rest.pop(0)
        if token == "--size" and len(rest) > 1 and rest[0].isdecimal() and rest[1].isdecimal():
            token = f"--size=[{rest.pop(0)}, {rest.pop(0)}]"
        joined.append(token)
    return joined


def _of_run(args: Sequence[str]) -> list[str]:
    """The arguments that say which checkpoint is meant."""
    settings = Settings.of(args)
    keys = {override.key for override in settings.overrides}
    for key in ("run", "ckpt_path"):
        if key in keys and (settings.files or "name" in keys):
            raise UserError(
                f"--{key} brings its run's own config; --config and --name choose the newest run "
                "of theirs. Give one or the other."
            )
    chosen = [token for file in settings.files for token in ("--config", str(file))]
    for override in settings.overrides:
        if override.key in ("run", "ckpt_path", "name", "weights"):
            chosen += override.tokens
    return chosen


def _size(given: str) -> tuple[int, int]:
    found = re.fullmatch(r"\[?\s*(\d+)\s*,\s*(\d+)\s*\]?", given.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1:
        raise UserError(
            f"--size {given}: expected [HEIGHT, WIDTH] in pixels, such as --size '[512, 1024]'."
        )
    return size


def _with_preview(
    asked: bool | None, repository: str | None, public: bool, checkpoint: Path
) -> bool:
    """Whether the run's picture is written; in a public repository, only if asked for."""
    if asked is not None:
        return asked
    if repository is None or preview_of(checkpoint) is None or not is_public(repository, public):
        return True
    _progress(
        f"Left out: {PREVIEW}, as it shows validation images and {repository} is public. "
        "If the images may be shown, --preview true."
    )
    return False


def _formats(given: Sequence[str] | str | None) -> list[str]:
    if isinstance(given, str):
        given = [word.strip() for word in given.split(",") if word.strip()]
    if given is None:
        left_out = [format for format in FORMATS if missing_packages(format)]
        for format in left_out:
            print(f"Left out: {format}. For it, pip install -e '.[export]'", file=sys.stderr)
        return [format for format in FORMATS if format not in left_out]
    for format in given:
        if format not in FORMATS:
            raise UserError(f"--formats: {format!r} is none of {', '.join(FORMATS)}.")
    if not given:
        raise UserError(f"--formats is empty. There are {', '.join(FORMATS)}.")
    return [format for format in FORMATS if format in given]


def _output(given: str, evaluated: Evaluated) -> Path:
    return evaluated.output("export") if given == _OUTPUT else Path(given)


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _report(trained: Trained, done: Exported) -> str:
    """Files, sizes and differences."""
    lines = [f"Written to {done.folder}"]
    for name, size in done.files.items():
        lines.append(f"  {name:<18} {_bytes(size)}{_of_file(name, done)}")
    weights = sum(p.numel() * p.element_size() for p in trained.network.state_dict().values())
    of_file = _bytes(trained.path.stat().st_size).strip()
    if trained.source:
        lines.append(f"The weights came from {trained.source} ({of_file}).")
    else:
        lines.append(
            f"The checkpoint has {of_file}, with the optimizer and all that training needs."
        )
    if trained.training_bytes:
        more = sum(trained.training_bytes.values())
        lines.append(
            f"Weights of the network {_bytes(weights).strip()}; with "
            f"{' and '.join(trained.training_bytes)} they would be "
            f"{_bytes(weights + more).strip()}."
        )
    return "\n".join(lines)


def _of_file(name: str, done: Exported) -> str:
    format = next((format for format, file in FORMATS.items() if file == name), None)
    if format is None:
        return ""
    said = []
    written = done.formats[format]
    if format != "safetensors":
        size, multiple = written.size, written.multiple
        free = "any size" if multiple == 1 else f"any multiple of {multiple}"
        said.append(free if size is None else f"only {size[0]}×{size[1]} pixels")
    agreement = written.agreement
    if agreement is None:
        said.append("not compared: pip install onnxruntime")
    else:
        said.append(
            f"largest difference {agreement.difference:.1e} of logits up to {agreement.logit:.3g}"
        )
    reason = f"\n    fixed at one size because: {written.reason}" if written.reason else ""
    return "   " + ", ".join(said) + reason


def _bytes(size: int) -> str:
    return f"{size / 1e6:9.2f} MB" if size >= 1e5 else f"{size / 1e3:9.2f} kB"
