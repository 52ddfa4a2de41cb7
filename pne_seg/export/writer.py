"""`export`: write a trained network's folder, and compare it before it takes its place."""

import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pne_seg.errors import UserError
from pne_seg.export.comparison import TOLERANCE, Agreement, compare, load_written, sizes_to_try
from pne_seg.export.metadata import as_json, conventions, describe, header
from pne_seg.export.model_card import is_edited, write_card
from pne_seg.export.output_folder import STAGING, check_output, publish
from pne_seg.export.tracing import Traced, first_line, trace, write_onnx, write_program
from pne_seg.export.weights_file import write_weights
from pne_seg.exported import CARD, DESCRIPTION, FORMATS, NEW_CARD, PREVIEW
from pne_seg.inference import Predictor
from pne_seg.runs import run_of_checkpoint
from pne_seg.trained import Trained

_NEEDS = {"onnx": ("onnx", "onnxscript")}
_DEFAULT_SIDE = 512


class DisagreementError(Exception):
    """What was written does not return what the network returns."""


@dataclass
class WrittenFormat:
    """What a format's file takes, and how far it is from the network.

    Attributes:
        size: height and width that it is fixed at; None for any.
        multiple: pixels that must divide both sides of an image.
        notes: what `segmentation.json` says about the file.
        reason: why it is fixed at one size; None if it is not, or was asked to be.
        agreement: None if it could not be run here.
    """

    size: tuple[int, int] | None
    multiple: int
    notes: dict[str, Any]
    reason: str | None = None
    agreement: Agreement | None = None


@dataclass
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        files: name → bytes.
        formats: format → what is known of its file.
    """

    folder: Path
    files: dict[str, int] = field(default_factory=dict)
    formats: dict[str, WrittenFormat] = field(default_factory=dict)


def missing_packages(format: str) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    return [name for name in _NEEDS.get(format, ()) if find_spec(name) is None]


def check_packages(formats: Collection[str]) -> None:
    """Refuse formats whose packages are not installed.

    Raises:
        UserError: one is missing.
    """
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
        trained: what to write; it is not changed.
        output: the folder: new, empty, or of an earlier export.
        formats: of `FORMATS`.
        size: height and width that the graphs are fixed at; by default any size, if possible.
        say: called with a line on each step.
        with_preview: whether to include the run's picture, which shows images of the data.

    Raises:
        UserError: the folder holds other files, a package is missing, the network cannot be
            written in a format, or a file cannot be written.
        DisagreementError: a file returns other logits than the network; nothing is written.
    """
    check_output(output)
    check_packages(formats)
    stride = trained.preprocessing.stride
    if size is not None and (size[0] % stride or size[1] % stride):
        fitting = [_round_up(side, stride) for side in size]
        raise UserError(
            f"--size {[*size]}: the network's stride, {stride}, must divide both sides, as in "
            f"{fitting}."
        )
    done = Exported(output)
    # On the folder's own disk, so that moving the files is only renaming.
    beside = output if output.is_mount() else output.resolve().parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=beside) as name:
            folder = Path(name)
            done.formats = _write_formats(trained, folder, formats, size, say)
            say("Comparing with the network …")
            for format, written in done.formats.items():
                written.agreement = _compare(trained, folder, format, written)
            content = describe(trained, {key: done.formats[key].notes for key in done.formats})
            (folder / DESCRIPTION).write_text(as_json(content), encoding="utf-8")
            preview = preview_of(trained.path) if with_preview else None
            if preview is not None:
                shutil.copyfile(preview, folder / PREVIEW)
            card = NEW_CARD if is_edited(output / CARD) else CARD
            write_card(trained, content, folder / card, preview is not None)
            publish(folder, output)
        done.files = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror}). Make room, or give another "
            "folder."
        ) from error
    return done


def _write_formats(
    trained: Trained,
    folder: Path,
    formats: Collection[str],
    size: tuple[int, int] | None,
    say: Callable[[str], object],
) -> dict[str, WrittenFormat]:
    """Write the weights and the graphs."""
    written: dict[str, WrittenFormat] = {}
    stride = trained.preprocessing.stride
    if "safetensors" in formats:
        write_weights(trained.network, trained.slot, folder, header(trained, None))
        taken = _only_size(trained)
        notes = _notes(taken, stride) | conventions(stride, None)
        written["safetensors"] = WrittenFormat(taken, stride, notes)
    if not {"onnx", "torch"} & {*formats}:
        return written
    say("Tracing the network …")
    fallback = size or _default_size(trained)
    traced = trace(trained.network, trained.preprocessing, fallback, fixed=size is not None)
    # ONNX first: the other file is saved without the example that a translation starts from.
    for format in ("onnx", "torch"):
        if format in formats:
            say(f"Writing {FORMATS[format]} …")
            used, facts = _write_graph(trained, traced, fallback, format, folder)
            notes = _notes(used.size, used.multiple, used.reason)
            notes |= conventions(stride, used) | facts
            written[format] = WrittenFormat(used.size, used.multiple, notes, used.reason)
    return written


def _notes(
    size: tuple[int, int] | None, multiple: int, reason: str | None = None
) -> dict[str, Any]:
    notes: dict[str, Any] = {"batch": "any", "size": "any" if size is None else [*size]}
    if size is None:
        notes["multiple_of"] = multiple
    if reason is not None:
        notes["fixed_because"] = reason
    return notes


def _write_graph(
    trained: Trained, traced: Traced, fallback: tuple[int, int], format: str, folder: Path
) -> tuple[Traced, dict[str, Any]]:
    """Write a graph of any size, or if the format cannot, one of a fixed size."""
    write = {"onnx": write_onnx, "torch": write_program}[format]
    path = folder / FORMATS[format]
    try:
        return traced, write(traced, path, header(trained, traced))
    except OSError:  # of the disk: it would be no better at one size
        raise
    except Exception as error:  # exporters fail as they like
        reason = first_line(error)
    if traced.size is None:
        fixed = trace(trained.network, trained.preprocessing, fallback, fixed=True)
        fixed = replace(fixed, reason=reason)
        try:
            return fixed, write(fixed, path, header(trained, fixed))
        except Exception as error:
            reason = first_line(error)
    raise UserError(f"{FORMATS[format]} cannot be written: {reason}\n  {_leave_out(format)}")


def _leave_out(format: str) -> str:
    others = ", ".join(known for known in FORMATS if known != format)
    return f"Leave it out: --formats '[{others}]'"


def _default_size(trained: Trained) -> tuple[int, int]:
    """Return the images' own height and width, else those of training."""
    data = trained.config.get("data")
    settings = data.get("init_args") or {} if isinstance(data, dict) else {}
    if trained.data.resize_base is not None:
        width, height = trained.data.resize_base
    else:
        height, width = settings.get("crop_size") or (_DEFAULT_SIDE, _DEFAULT_SIDE)
    stride = trained.preprocessing.stride
    return _round_up(height, stride), _round_up(width, stride)


def _round_up(side: int, stride: int) -> int:
    return -(-side // stride) * stride


def _only_size(trained: Trained) -> tuple[int, int] | None:
    """Return the one size that the network takes; None if it takes several."""
    predictor = Predictor(trained.network, trained.preprocessing)
    sizes = sizes_to_try(trained.preprocessing.stride, None)
    try:
        compare(predictor.logits, trained.network, trained.preprocessing, sizes)
    except Exception:  # a network fails as it likes
        return _default_size(trained)
    return None


def _compare(
    trained: Trained, folder: Path, format: str, written: WrittenFormat
) -> Agreement | None:
    run = load_written(format, folder, trained.preprocessing, trained.imports)
    if run is None:
        return None
    fix = "Nothing was written."
    if format != "safetensors":
        fix += f"\n  {_leave_out(format)}"
        if written.size is None:
            fix += ", or fix the graphs at one size: --size '[HEIGHT, WIDTH]'"
    sizes = sizes_to_try(written.multiple, written.size)
    try:
        found = compare(run, trained.network, trained.preprocessing, sizes)
    except Exception as error:  # runtimes fail as they like
        raise DisagreementError(
            f"{FORMATS[format]} does not run: {first_line(error)}\n  {fix}"
        ) from error
    if not found.holds:
        raise DisagreementError(
            f"{FORMATS[format]} returns logits up to {found.difference:.2g} away from the "
            f"network's, whose largest is {found.logit:.3g}; {TOLERANCE:g} of it is allowed. {fix}"
        )
    return found


def preview_of(checkpoint: Path) -> Path | None:
    """Return the picture of a checkpoint's run, validation images with predictions, if any."""
    run = run_of_checkpoint(checkpoint)
    picture = run.folder / "figures" / "predictions.png" if run is not None else None
    return picture if picture is not None and picture.is_file() else None
