"""export: write a run's network as safetensors, ONNX and torch.export, with a model card."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pne_seg.cli import loading, program
from pne_seg.cli.arguments import ALLOW_HELP, WEIGHTS_HELP
from pne_seg.cli.parser import Parser
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.exported import CARD, FILES, FORMATS, NEW_CARD, PREVIEW

if TYPE_CHECKING:
    from pne_seg.export.writer import Exported
    from pne_seg.trained import Trained

_DESCRIPTION = """\
Write a trained network for use elsewhere: its weights, ONNX and torch.export with everything
inside, and a model card. What was written is compared with the network; exit code 1 if it returns
something else."""

_OUTPUT = "RUN/export/CHECKPOINT"
_OF_RUN = ("run", "ckpt_path", "name", "weights")
"""Arguments that say which checkpoint is meant."""


def run(args: Sequence[str]) -> Path:
    """Export a network, print what was written and return its folder.

    Exit code 1 if a file disagrees with the network.
    """
    # `--size H W` is taken as `--size [H, W]`.
    joined = re.sub(r"(^|\0)--size\0(\d+)\0(\d+)(?=\0|$)", r"\1--size=[\2, \3]", "\0".join(args))
    args = joined.split("\0") if args else []
    settings = Settings.of(args)  # bounds of the values, too
    imports = settings.imports
    config = build_parser().parse(settings)  # reports a mistyped key before a run is looked for
    with loading():  # after --help and mistyped keys: these take seconds
        from pne_seg.cli.start import weights_to_score
        from pne_seg.export.agreement import DisagreementError
        from pne_seg.export.writer import check_export, export, preview_of
        from pne_seg.trained import load_trained

    formats = _formats(config.formats)
    size = None if config.size is None else _size(config.size)
    if not (config.output or "").strip():
        raise UserError("--output needs a path.")
    if config.push is not None:
        _check_push(config.push)
    settings.overrides = [given for given in settings.overrides if given.key in _OF_RUN]
    keys = {given.key for given in settings.overrides}
    for key in ("run", "ckpt_path"):
        if key in keys and (settings.files or "name" in keys):
            raise UserError(
                f"--{key} brings its run's own config; --config and --name choose the newest run "
                "of theirs. Give one or the other."
            )
    evaluated = weights_to_score(settings, _progress)
    assert evaluated is not None  # but for --help, which has ended
    output = evaluated.output("export") if config.output == _OUTPUT else Path(config.output)
    check_export(output, formats)
    if evaluated.source is None:
        trained = load_trained(evaluated.file, imports=replace(imports, own=False))
    else:
        trained = load_trained(evaluated.source, settings.config, imports)
        _progress(trained.loaded)
    preview = config.preview
    if preview is None:
        shown = config.push is not None and preview_of(evaluated.file) is not None
        preview = not (shown and _is_public(config.push, config.public))
        if not preview:
            _progress(
                f"Left out: {PREVIEW}, as it shows validation images and {config.push} is public. "
                "If the images may be shown, --preview true."
            )
    console = Console(stderr=True)
    try:
        with console.status("") as status:
            say = status.update if console.is_terminal else _progress
            done = export(trained, output, formats, size, say=say, with_preview=preview)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(_report(trained, done))
    if NEW_CARD in done.files:
        _progress(f"{CARD} was edited and is kept; the new card is {NEW_CARD}.")
        if PREVIEW not in done.files and PREVIEW in (output / CARD).read_text(errors="replace"):
            _progress(f"{CARD} names {PREVIEW}, which is not there: take the line out.")
    if config.push is not None:
        print(f"Uploaded to {_push(output, config.push, config.public)}")
    return output


def build_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(prog=f"{program()} export", description=_DESCRIPTION)
    add, text = parser.add_argument, str | None
    add("-c", "--config", action="config", help="Its newest run is meant, or --weights for it.")
    add("--name", type=text, help="The run's name, by default the config's.")
    add("--run", type=text, help="Run folder: config and best weights.")
    add("--ckpt_path", type=text, help="Checkpoint, in a run's folder, in place of the best.")
    add("--weights", type=text, help=WEIGHTS_HELP)
    add("--allow", type=text, help=ALLOW_HELP)
    add("--output", type=str, default=_OUTPUT, help="Folder: new, or of an earlier export.")
    add(
        "--formats",
        type=list[str] | str | None,
        help=f"Which of {', '.join(FORMATS)}; by default all that the installed packages allow.",
    )
    add(
        "--size",
        type=text,
        help="Fix the graphs at this [HEIGHT, WIDTH]; else any size, if possible.",
    )
    add("--push", type=text, help="Upload to this Hugging Face hub repository.")
    add("--public", type=bool, default=False, help="Whether a new repository is public.")
    add(
        "--preview",
        type=bool | None,
        help="Whether to include the run's picture, which shows validation images; by default "
        "unless the upload is public.",
    )
    return parser


def _size(given: str) -> tuple[int, int]:
    found = re.fullmatch(r"\[?\s*(\d+)\s*,\s*(\d+)\s*\]?", given.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1:
        raise UserError(
            f"--size {given}: expected [HEIGHT, WIDTH] in pixels, such as --size '[512, 1024]'."
        )
    return size


def _formats(given: Sequence[str] | str | None) -> list[str]:
    if isinstance(given, str):
        given = [word.strip() for word in given.split(",") if word.strip()]
    if given is None:
        from pne_seg.export.writer import missing_packages

        left_out = [format for format in FORMATS if missing_packages(format)]
        for format in left_out:
            _progress(f"Left out: {format}. For it, pip install 'pne-seg[export]'")
        return [format for format in FORMATS if format not in left_out]
    for format in given:
        if format not in FORMATS:
            raise UserError(f"--formats: {format!r} is none of {', '.join(FORMATS)}.")
    if not given:
        raise UserError(f"--formats is empty. There are {', '.join(FORMATS)}.")
    return [format for format in FORMATS if format in given]


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _report(trained: "Trained", done: "Exported") -> str:
    """Return the files, their sizes and how far they are from the network."""
    formats = {file: format for format, file in FORMATS.items()}
    lines = [f"Written to {done.folder}"]
    for name, size in done.files.items():
        about = _of_format(formats[name], done) if name in formats else ""
        lines.append(f"  {name:<18} {_bytes(size):>12}{about}")
    of_file = _bytes(trained.path.stat().st_size)
    if trained.source:
        lines.append(f"The weights came from {trained.source} ({of_file}).")
    else:
        lines.append(
            f"The checkpoint has {of_file}, with the optimizer and all that training needs."
        )
    if trained.training_bytes:
        weights = sum(p.numel() * p.element_size() for p in trained.network.state_dict().values())
        more = weights + sum(trained.training_bytes.values())
        lines.append(
            f"Weights of the network {_bytes(weights)}; with "
            f"{' and '.join(trained.training_bytes)} they would be {_bytes(more)}."
        )
    return "\n".join(lines)


def _of_format(format: str, done: "Exported") -> str:
    written, parts = done.formats[format], []
    if written.size is not None and format != "safetensors":
        parts.append(f"only {written.size[0]}×{written.size[1]} pixels")
    elif format != "safetensors":
        multiple = written.multiple
        parts.append("any size" if multiple == 1 else f"any multiple of {multiple}")
    if format in done.differences:
        difference, largest = done.differences[format]
        parts.append(f"largest difference {difference:.1e} of logits up to {largest:.3g}")
    else:
        parts.append("not compared: pip install onnxruntime")
    reason = f"\n    fixed at one size because: {written.reason}" if written.reason else ""
    return "   " + ", ".join(parts) + reason


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.2f} kB"


def _check_push(repository: str) -> None:
    """Refuse what cannot succeed, before anything is written."""
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"--push {repository}: expected the name of a repository, user/name.")
    if get_token() is None:
        raise UserError(
            f"--push {repository}: not logged in to the Hugging Face hub. Run `hf auth login`, or "
            "set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)."
        )


def _is_public(repository: str, if_new: bool) -> bool:
    """Return whether everyone can see what is uploaded."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        return not api.repo_info(repository).private if api.repo_exists(repository) else if_new
    except Exception:  # the network is down, say: rather too careful than not
        return True


def _push(folder: Path, repository: str, public: bool) -> str:
    """Upload an export, to a new repository if there is none, and return its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    sent = [name for name in FILES if name != NEW_CARD and (folder / name).is_file()]
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=sent,
            delete_patterns=[name for name in FILES if name not in sent],  # of an earlier export
            commit_message="Export of pne_seg",
        )
    except Exception as error:  # of the hub, the network, the proxy …
        raise UserError(
            f"--push {repository}: {' '.join(str(error).split())[:300]}\n  The export is whole in "
            f"{folder}; `hf upload {repository} {folder}` sends it too."
        ) from error
    return str(address)
