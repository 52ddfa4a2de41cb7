"""`export`: write a trained network's folder, and check it before it takes its place."""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pne_seg.errors import UserError
from pne_seg.export.card import write_card
from pne_seg.export.checking import TOLERANCE, Agreement, compare, runner, sizes_to_try
from pne_seg.export.contents import as_json, conventions, describe, header
from pne_seg.export.folder import (
    CARD,
    DESCRIPTION,
    FILES,
    FORMATS,
    NEW_CARD,
    PREVIEW,
    begin,
    is_edited,
    is_export,
)
from pne_seg.export.programs import Traced, first_line, trace, write_onnx, write_program
from pne_seg.export.weights import write_weights
from pne_seg.inference import Predictor
from pne_seg.runs import run_of_checkpoint
from pne_seg.trained import Trained

_NEEDS = {"onnx": ("onnx", "onnxscript")}
_DEFAULT_SIDE = 512
_STAGING = ".unfinished_export."

Writer = Callable[[Traced, Path, Mapping[str, str]], dict[str, Any]]
"""Writes a graph with its description; returns what else there is to say of the file."""


class DisagreementError(Exception):
    """What was written does not give what the network gives."""


@dataclass
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        files: name → bytes.
        sizes: format → the height and width that its graph is held to; None for any.
        multiples: format → pixels that must divide both sides of an image.
        reasons: format → why it is held to one.
        agreements: format → how far it is from the network; None where it could not be run here.
    """

    folder: Path
    files: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    multiples: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    agreements: dict[str, Agreement | None] = field(default_factory=dict)


def missing_packages(format: str) -> list[str]:
    """Packages that a format needs and that are not installed."""
    return [name for name in _NEEDS.get(format, ()) if find_spec(name) is None]


def check_output(folder: Path, formats: Collection[str]) -> None:
    """Refuse, before anything is traced, what cannot be written.

    Raises:
        UserError: the folder holds other files, or a new card that was edited, or a package is
            missing.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file. Give a folder.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = {name for name in names if not name.startswith(_STAGING)}
    others = sorted(names - {*FILES} if is_export(folder) else names)
    if others:
        raise UserError(
            f"--output {folder} holds files of other kinds ({others[0]}). Give a new folder, or "
            f"one of an earlier export (with {DESCRIPTION}), which is replaced."
        )
    if is_edited(folder / NEW_CARD):
        raise UserError(
            f"{folder / NEW_CARD} was edited and would be replaced. Make it the card: rename it to "
            f"{CARD}; or move it away."
        )
    for format in formats:
        if missing := missing_packages(format):
            raise UserError(
                f"{format} needs the package {' and '.join(missing)}: pip install -e '.[export]'\n"
                f"  {_leave_out(format)}"
            )


def export(
    trained: Trained,
    output: Path,
    formats: Collection[str] = tuple(FORMATS),
    size: tuple[int, int] | None = None,
    say: Callable[[str], object] = lambda _: None,
    with_preview: bool = True,
) -> Exported:
    """Write a trained network for use without this project.

    The files are written beside the folder, read back and compared with the network, and only then
    take their places one by one; those of an earlier export that are not written again are removed.
    A card that the user has edited stays; the new one is written beside it as `README.new.md`.

    Args:
        trained: what to write; it is left as it is.
        output: the folder: new, empty, or of an earlier export.
        formats: of `FORMATS`.
        size: height and width that the graphs are held to; any size where not given and possible.
        say: takes a line on what is being done.
        with_preview: whether the run's picture, which shows images of the data, goes with it.

    Raises:
        UserError: the folder holds other files, a package is missing, the network cannot be
            written in a format, or a file cannot be written.
        DisagreementError: a file gives other class scores than the network; nothing is written.
    """
    check_output(output, formats)
    stride = trained.preprocessing.stride
    if size is not None and (size[0] % stride or size[1] % stride):
        fitting = [-(-side // stride) * stride for side in size]
        raise UserError(
            f"--size {[*size]}: the network's stride, {stride}, must divide both sides, as in "
            f"{fitting}."
        )
    done = Exported(output)
    try:
        _write(trained, output, formats, size, done, say, with_preview)
        done.files = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror}). Make room, or give another "
            "folder."
        ) from error
    return done


def _write(
    trained: Trained,
    output: Path,
    formats: Collection[str],
    size: tuple[int, int] | None,
    done: Exported,
    say: Callable[[str], object],
    with_preview: bool,
) -> None:
    # On the folder's own disk, so that moving the files is a matter of names.
    beside = output if output.is_mount() else output.resolve().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=beside) as name:
        folder = Path(name)
        notes = _write_formats(trained, folder, formats, size, done, say)
        _check(trained, folder, done, say)
        content = describe(trained, notes)
        (folder / DESCRIPTION).write_text(as_json(content), encoding="utf-8")
        preview = preview_of(trained.path) if with_preview else None
        if preview is not None:
            shutil.copyfile(preview, folder / PREVIEW)
        card = NEW_CARD if is_edited(output / CARD) else CARD
        write_card(trained, content, folder / card, preview is not None)
        _publish(folder, output)


def _write_formats(
    trained: Trained,
    folder: Path,
    formats: Collection[str],
    size: tuple[int, int] | None,
    done: Exported,
    say: Callable[[str], object],
) -> dict[str, dict[str, Any]]:
    """Write the weights and graphs; returns what `segmentation.json` says of each."""
    notes: dict[str, dict[str, Any]] = {}
    if "safetensors" in formats:
        write_weights(trained.network, trained.slot, folder, header(trained, None))
        stride = trained.preprocessing.stride
        notes["safetensors"] = _note("safetensors", stride, _size_taken(trained), None, done)
        notes["safetensors"] |= conventions(stride, None)
    if not {"onnx", "torch"} & {*formats}:
        return notes
    say("Tracing the network …")
    fallback = size or _size_of(trained)
    traced = trace(trained.network, trained.preprocessing, fallback, fixed=size is not None)
    # ONNX first: the other file is saved without the example that a translation starts from.
    writers: dict[str, Writer] = {"onnx": write_onnx, "torch": write_program}
    for format, write in writers.items():
        if format in formats:
            say(f"Writing {FORMATS[format]} …")
            path = folder / FORMATS[format]
            used, facts = _write_graph(trained, traced, fallback, format, write, path)
            note = _note(format, used.multiple, used.size, used.reason, done)
            notes[format] = note | conventions(trained.preprocessing.stride, used) | facts
    return notes


def _write_graph(
    trained: Trained,
    traced: Traced,
    fallback: tuple[int, int],
    format: str,
    write: Writer,
    path: Path,
) -> tuple[Traced, dict[str, Any]]:
    """Write a graph of any size, or where the format cannot, one of a fixed size."""
    try:
        return traced, write(traced, path, header(trained, traced))
    except OSError:  # of the disk: it would be no better at one size
        raise
    except Exception as error:  # exporters fail as they like
        reason = first_line(error)
    if traced.size is None:
        held = trace(trained.network, trained.preprocessing, fallback, fixed=True)
        held = replace(held, reason=reason)
        try:
            return held, write(held, path, header(trained, held))
        except Exception as error:
            reason = first_line(error)
    raise UserError(f"{FORMATS[format]} cannot be written: {reason}\n  {_leave_out(format)}")


def _leave_out(format: str) -> str:
    others = ", ".join(known for known in FORMATS if known != format)
    return f"Leave it out: --formats '[{others}]'"


def _note(
    format: str, multiple: int, size: tuple[int, int] | None, reason: str | None, done: Exported
) -> dict[str, Any]:
    """Keep what sizes a file takes; returns what `segmentation.json` says of it."""
    done.sizes[format], done.multiples[format] = size, multiple
    note: dict[str, Any] = {"batch": "any", "size": "any" if size is None else [*size]}
    if size is None:
        note["multiple_of"] = multiple
    if reason is not None:
        done.reasons[format] = note["fixed_because"] = reason
    return note


def _size_of(trained: Trained) -> tuple[int, int]:
    """Height and width that a graph is held to where it must be: images' own, else training's."""
    data = trained.config.get("data")
    settings = data.get("init_args") or {} if isinstance(data, dict) else {}
    if trained.data.resize_base is not None:
        width, height = trained.data.resize_base
    else:
        height, width = settings.get("crop_size") or (_DEFAULT_SIDE, _DEFAULT_SIDE)
    stride = trained.preprocessing.stride
    return -(-height // stride) * stride, -(-width // stride) * stride


def _check(trained: Trained, folder: Path, done: Exported, say: Callable[[str], object]) -> None:
    say("Comparing with the network …")
    for format, size in done.sizes.items():
        run = runner(format, folder, trained.preprocessing, trained.imports)
        if run is None:
            done.agreements[format] = None
            continue
        mend = f"Nothing was written.\n  {_leave_out(format)}"
        if format == "safetensors":
            mend = "Nothing was written."
        elif size is None:
            mend += ", or hold the graphs to one size: --size '[HEIGHT, WIDTH]'"
        sizes = sizes_to_try(done.multiples[format], size)
        try:
            found = compare(run, trained.network, trained.preprocessing, sizes)
        except Exception as error:  # runtimes fail as they like
            raise DisagreementError(
                f"{FORMATS[format]} does not run: {first_line(error)}\n  {mend}"
            ) from error
        done.agreements[format] = found
        if not found.holds:
            raise DisagreementError(
                f"{FORMATS[format]} gives class scores up to {found.difference:.2g} away from the "
                f"network's, whose largest is {found.score:.3g}; {TOLERANCE:g} of it is allowed. "
                f"{mend}"
            )


def _size_taken(trained: Trained) -> tuple[int, int] | None:
    """The one size that the network takes; None where it takes several."""
    sizes = sizes_to_try(trained.preprocessing.stride, None)
    try:
        compare(
            Predictor(trained.network, trained.preprocessing).logits,
            trained.network,
            trained.preprocessing,
            sizes,
        )
    except Exception:  # a network fails as it likes
        return _size_of(trained)
    return None


def preview_of(checkpoint: Path) -> Path | None:
    """The picture of a checkpoint's run, if there is one: validation images with predictions."""
    run = run_of_checkpoint(checkpoint)
    picture = run.folder / "figures" / "predictions.png" if run is not None else None
    return picture if picture is not None and picture.is_file() else None


def _publish(folder: Path, output: Path) -> None:
    """Move the files to their places, the description last: with it the export is whole."""
    written = sorted(folder.iterdir(), key=lambda file: file.name == DESCRIPTION)
    for file in written:  # a disk that is full says so here, before anything is replaced
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    output.mkdir(exist_ok=True)
    begin(output)  # until then no mixture with an earlier export's files is taken for one
    names = {file.name for file in written}
    kept = {CARD} if NEW_CARD in names else set()
    for name in {*FILES} - names - kept - {DESCRIPTION}:
        (output / name).unlink(missing_ok=True)  # of another network: it must not stay beside this
    for file in written:
        file.replace(output / file.name)
