"""`export`: write a trained network's folder, and compare it before it takes its place."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pne_seg.errors import UserError
from pne_seg.export import model_card, tracing
from pne_seg.export.agreement import compare, difference, leave_out
from pne_seg.exported import (
    CARD,
    CONFIG,
    DESCRIPTION,
    FILES,
    FORMATS,
    NEW_CARD,
    PREVIEW,
    UNFINISHED,
    WEIGHTS,
    is_export,
)
from pne_seg.files import write_bytes_atomically
from pne_seg.inference import Predictor
from pne_seg.runs import run_of_checkpoint
from pne_seg.trained import Trained

_DEFAULT_SIDE = 512
_STAGING = ".unfinished_export."
"""Prefix of the temporary folder."""


@dataclass
class Exported:
    """What an export wrote."""

    folder: Path
    files: dict[str, int] = field(default_factory=dict)  # name → bytes
    formats: dict[str, tracing.Traced] = field(default_factory=dict)
    # Format → largest difference in logits, and the largest logit; without what cannot run here.
    differences: dict[str, tuple[float, float]] = field(default_factory=dict)


def missing_packages(format: str) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    needed = ("onnx", "onnxscript") if format == "onnx" else ()
    return [name for name in needed if find_spec(name) is None]


def check_export(output: Path, formats: Collection[str]) -> None:
    """Refuse formats without their packages, and a folder that cannot be replaced."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file. Give a folder.")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    names = {name for name in names if not name.startswith(_STAGING)}
    if others := sorted(names - {*FILES} if is_export(output) else names):
        raise UserError(
            f"{output} holds files of other kinds ({others[0]}). Give a new folder, or one of an "
            f"earlier export (with {DESCRIPTION}), which is replaced."
        )
    if model_card.is_edited(output / NEW_CARD):
        raise UserError(
            f"{output / NEW_CARD} was edited and would be replaced. Make it the card: rename it to "
            f"{CARD}; or move it away."
        )
    for format in formats:
        if missing := missing_packages(format):
            raise UserError(
                f"{format} needs the package {' and '.join(missing)}: "
                f"pip install 'pne-seg[export]'\n  {leave_out(format)}"
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
        DisagreementError: a file returns other logits than the network; nothing is written.
    """
    check_export(output, formats)
    stride = trained.preprocessing.stride
    if size is not None and (size[0] % stride or size[1] % stride):
        raise UserError(
            f"size {[*size]}: the network's stride, {stride}, must divide both sides, as in "
            f"{[tracing.round_up(side, stride) for side in size]}."
        )
    done = Exported(output)
    # On the folder's own disk, so that moving the files is only renaming.
    beside = output if output.is_mount() else output.resolve().parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=beside) as name:
            folder = Path(name)
            done.formats = _write_formats(trained, folder, formats, size, say)
            say("Comparing with the network …")
            for format, written in done.formats.items():
                if (found := compare(trained, folder, format, written)) is not None:
                    done.differences[format] = found
            content = model_card.describe(trained, done.formats)
            (folder / DESCRIPTION).write_text(model_card.as_json(content), encoding="utf-8")
            preview = preview_of(trained.path) if with_preview else None
            if preview is not None:
                shutil.copyfile(preview, folder / PREVIEW)
            card = NEW_CARD if model_card.is_edited(output / CARD) else CARD
            model_card.write_card(trained, content, folder / card, preview is not None)
            _publish(folder, output)
        done.files = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}). Make room, or give another folder."
        ) from error
    return done


def _write_formats(
    trained: Trained,
    folder: Path,
    formats: Collection[str],
    size: tuple[int, int] | None,
    say: Callable[[str], object],
) -> dict[str, tracing.Traced]:
    """Write weights and graphs; return which images each takes."""
    written = {}
    network, preprocessing = trained.network, trained.preprocessing
    fallback = size or _default_size(trained)
    if "safetensors" in formats:
        weights = tracing.Traced(None, preprocessing.stride)
        try:
            difference(Predictor(network, preprocessing).logits, trained, weights)
        except Exception:  # a network fails as it likes
            weights = replace(weights, size=_default_size(trained))
        _write_weights(trained, folder, model_card.header(trained, weights))
        written["safetensors"] = weights
    if not {"onnx", "torch"} & {*formats}:
        return written
    say("Tracing the network …")
    traced = tracing.trace(network, preprocessing, fallback, fixed=size is not None)
    # ONNX first: the other file is saved without the example that a translation starts from.
    for format, write in (("onnx", tracing.write_onnx), ("torch", tracing.write_program)):
        if format not in formats:
            continue
        path = folder / FORMATS[format]
        say(f"Writing {path.name} …")
        try:
            written[format] = write(traced, path, model_card.header(trained, traced))
        except OSError:  # of the disk: it would be no better at one size
            raise
        except Exception as error:  # exporters fail as they like
            try:
                if traced.size is not None:
                    raise
                fixed = tracing.trace(network, preprocessing, fallback, fixed=True)
                fixed = replace(fixed, reason=tracing.first_line(error))
                written[format] = write(fixed, path, model_card.header(trained, fixed))
            except Exception as failure:
                raise UserError(
                    f"{path.name} cannot be written: {tracing.first_line(failure)}\n"
                    f"  {leave_out(format)}"
                ) from failure
    return written


def _write_weights(trained: Trained, folder: Path, metadata: Mapping[str, str]) -> None:
    """Write `model.safetensors`, and the `config.json` that rebuilds the network.

    smp's networks and this package's write their own `config.json`, so that `smp.from_pretrained`
    or `pne_seg.networks.from_pretrained` loads them. Of any other it holds class and settings.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    network: Any = trained.network
    try:
        if model_card.loading_library(network) is not None:
            network.save_pretrained(folder)
            (folder / CARD).unlink(missing_ok=True)  # smp's own
        else:
            text = json.dumps(trained.slot, indent=2, ensure_ascii=False) + "\n"
            (folder / CONFIG).write_text(text, encoding="utf-8")
        save_model(network, str(folder / WEIGHTS), {"format": "pt", **metadata})
    except SafetensorError as error:  # of a full disk too
        raise UserError(f"{WEIGHTS} cannot be written: {error}") from error


def _default_size(trained: Trained) -> tuple[int, int]:
    """Return the images' own height and width, else those of training."""
    data = trained.config.get("data")
    settings = data.get("init_args") or {} if isinstance(data, dict) else {}
    if trained.data.resize_base is not None:
        width, height = trained.data.resize_base
    else:
        height, width = settings.get("crop_size") or (_DEFAULT_SIDE, _DEFAULT_SIDE)
    stride = trained.preprocessing.stride
    return tracing.round_up(height, stride), tracing.round_up(width, stride)


def _publish(folder: Path, output: Path) -> None:
    """Move the files to their places, the description last: with it the export is whole."""
    written = sorted(folder.iterdir(), key=lambda file: file.name == DESCRIPTION)
    for file in written:  # a disk that is full says so here, before anything is replaced
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    output.mkdir(exist_ok=True)
    # Until the description is there, a mixture with an earlier export's files is not loaded.
    unfinished = f'{{"{UNFINISHED}": true}}\n'
    write_bytes_atomically(output / DESCRIPTION, unfinished.encode())
    names = {file.name for file in written}
    kept = {CARD} if NEW_CARD in names else set()
    for name in {*FILES} - names - kept - {DESCRIPTION}:
        (output / name).unlink(missing_ok=True)  # of another network: it must not stay beside this
    for file in written:
        file.replace(output / file.name)


def preview_of(checkpoint: Path) -> Path | None:
    """Return the picture of a checkpoint's run, validation images with predictions, if any."""
    run = run_of_checkpoint(checkpoint)
    picture = run.folder / "figures" / "predictions.png" if run is not None else None
    return picture if picture is not None and picture.is_file() else None
