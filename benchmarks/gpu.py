"""What the loss gives and costs on a GPU: correctness, time, synchronizations, steps, data.

bash benchmarks/gpu.sh --output FOLDER               on a GPU, at most 8 minutes
python -m benchmarks.gpu --device cpu --small        whether the parts run, without a GPU

golden            loss and gradient against the values of the authors' code (tests/contrast/golden)
losses            every loss, on used pixels and on a whole map of embeddings (benchmarks/pne.py)
projection        every loss with its projection from 512 channels, eager and compiled
synchronizations  how often the host waits, and what the selection costs, its waits included
steps             training steps of the paper's largest networks (benchmarks/networks.py)
loader            images/s that the data pipeline gives, beside those that the steps take

Times are of forward and backward, medians. Each part is written as it ends, to `gpu.json` and
`gpu.md`; a part that fails says why, the others run, and the exit code is 1.
"""

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import networks, pne
from benchmarks.measure import interleaved, machine, peak_memory
from benchmarks.pictures import CASES, write_files
from benchmarks.synthetic import Batch, Case, make_batch
from pne_seg.contrast import PNELoss, prepare
from pne_seg.contrast.component import PNE, Contrast, InfoNCE, PixelContrast, Projection
from pne_seg.contrast.interface import take

GOLDEN = Path(__file__).parent.parent / "tests" / "contrast" / "golden"
CHANNELS = 512  # of the feature that is projected, as UPerNet's
CONTRASTS: dict[str, Callable[..., Contrast]] = {
    "PNE": PNE,
    "InfoNCE": InfoNCE,
    "PixelContrast": PixelContrast,
}
PROJECT: tuple[Literal["all", "used"], ...] = ("all", "used")
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; returns 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, one round")
    parser.add_argument("--output", type=Path, default=Path(), help="folder (default: this one)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="that load data")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that PyTorch can use; --device cpu --small tries the parts without")
    given.rounds = 1 if given.small else 10
    report: dict[str, Any] = {"machine": machine(given.device), "parts": {}}
    for name in given.only:
        begin = time.perf_counter()
        part: dict[str, Any] = {"about": (PARTS[name].__doc__ or "").splitlines()[0]}
        try:
            part["rows"] = PARTS[name](given, report)
        except Exception as error:  # the other parts can be measured
            part["failed"] = f"{type(error).__name__}: {error}"
        part["seconds"] = round(time.perf_counter() - begin, 1)
        report["parts"][name] = part
        write(report, given.output)
        print(section(name, part), flush=True)
        gc.collect()
        if given.device == "cuda":
            torch.cuda.empty_cache()
    return int(any("failed" in part for part in report["parts"].values()))


def golden(given: Namespace, _report: Row) -> list[Row]:
    """Relative differences from the authors' code, of the loss and of the gradient's norm."""
    rows = []
    for path in sorted(GOLDEN.glob("*.npz")):
        data = np.load(path)
        values = {name: torch.from_numpy(data[name]) for name in ("embeddings", "logits", "target")}
        embeddings, logits, target = (value.to(given.device) for value in values.values())
        embeddings.requires_grad_()
        row: Row = {"case": path.stem}
        for implementation in ("fast", "reference"):
            settings: Row = {
                name: data[name].item()
                for name in ("temperature", "num_samples", "min_anchors", "max_anchors")
            }
            loss = PNELoss(**settings, implementation=implementation)
            value = loss(embeddings, logits, target)
            (gradient,) = torch.autograd.grad(value, embeddings)
            expected = {"loss": data["loss"], "gradient": np.linalg.norm(data["grad_embeddings"])}
            found = {"loss": value.item(), "gradient": gradient.norm().item()}
            for name in found:
                difference = abs(found[name] - float(expected[name]))
                row[f"{implementation}, {name}"] = difference / max(float(expected[name]), 1e-12)
        rows.append(row)
    return rows


def losses(given: Namespace, _report: Row) -> list[Row]:
    """Milliseconds and MB of the losses, on used pixels and on all."""
    cases = [Case(2, 7, 16, 16, 32)] if given.small else [_case(text) for text in pne.CASES]
    rows = []
    for case in cases:
        batch = make_batch(case, present=5 if given.small else 13, device=given.device)
        for cost in pne.measure(batch, given.rounds, given.device):
            rows.append(
                {"B, C, h, w, D": cost.case, "pairs": cost.pairs, "loss": cost.loss}
                | {"used, ms": cost.used * 1e3, "used, MB": cost.used_memory / 1e6}
                | {"all, ms": cost.all * 1e3, "all, MB": cost.all_memory / 1e6}
                | {"products, ms": cost.products * 1e3}
            )
    return rows


def projection(given: Namespace, _report: Row) -> list[Row]:
    """Milliseconds and MB of the losses with their projection, eager and compiled."""
    batch, feature = _feature(given)
    rows = []
    for name, project in itertools.product(CONTRASTS, PROJECT):
        contrast = _contrast(name, project, given)
        eager = _step(contrast.compute, feature, batch)
        row: Row = {"loss": name, "project": project}
        calls = {"eager": eager}
        # What depends on the pixels' number stays eager by its own decorator.
        backend = "aot_eager" if given.device == "cpu" else "inductor"
        compiled = _step(torch.compile(contrast.compute, backend=backend), feature, batch)
        try:
            compiled()
            calls["compiled"] = compiled
        except Exception as error:  # no C compiler, say
            row["not compiled"] = type(error).__name__
        seconds = interleaved(calls, given.rounds, given.device)
        row |= {f"{call}, ms": value * 1e3 for call, value in seconds.items()}
        rows.append(row | {"MB": peak_memory(eager, given.device) / 1e6})
    return rows


def synchronizations(given: Namespace, _report: Row) -> list[Row]:
    """How often the host waits for the device, and what the selection costs, waits included.

    "behind work": the device is busy when the selection is asked for, as in a training step, where
    the host cannot run ahead of it; the time is that of the loss with its selection, less that of
    the loss with the same selection given.
    """
    batch, feature = _feature(given)
    rows = []
    for name in CONTRASTS:
        contrast = _contrast(name, "used", given)
        calls = _with_and_without_selection(contrast.loss, batch, given)
        seconds = interleaved(calls, given.rounds, given.device)
        step = _step(contrast.compute, feature, batch)
        forward = partial(contrast.compute, feature, batch.logits, batch.target)
        rows.append(
            {"loss": name}
            | {"waits forward": _waits(forward, given.device)}
            | {"waits forward and backward": _waits(step, given.device)}
            | {"selection behind work, ms": (seconds["with"] - seconds["without"]) * 1e3}
        )
    return rows


def steps(given: Namespace, _report: Row) -> list[Row]:
    """Training steps with and without the contrast, 512×512, bf16, batch 16."""
    systems = [("UPerNet", "tu-swin_tiny_patch4_window7_224"), ("HRNetV2", "tu-hrnet_w48")]
    settings = Namespace(
        device=given.device, precision="bf16", rounds=given.rounds, crop=512, batch=16
    )
    if given.small:
        systems = [("UPerNet", "resnet18")]
        settings = Namespace(**vars(settings) | {"crop": 64, "batch": 2})
    rows = []
    for method, encoder in systems:
        figures = asdict(networks.measure(method, encoder, settings))
        seconds, memory = figures["seconds"], figures["memory"]
        rows.append(
            {"network": f"{method} {encoder.removeprefix('tu-')}"}
            | {"step, ms": seconds[0] * 1e3, "images/s": settings.batch / seconds[0]}
            | {"project: all": seconds[1] / seconds[0], "project: used": seconds[2] / seconds[0]}
            | {"GB": memory[0] / 1e9, "GB, all": memory[1] / 1e9, "GB, used": memory[2] / 1e9}
            | {"pairs": figures["pairs"], "wrong pixels in them": figures["anchors"]}
        )
    return rows


def loader(given: Namespace, report: Row) -> list[Row]:
    """Images/s of ADE20K's training loader, from files of its size, and those of the steps."""
    case = next(case for case in CASES if case.name == "ADE20K")
    number, batch = (8, 2) if given.small else (192, 16)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), case, number)
        workers = 0 if given.small else given.workers
        data = case.module(root=folder, batch_size=batch, num_workers=workers)
        data.prepare_data()
        data.setup("fit")
        batches = data.train_dataloader()
        for _ in batches:  # starts the workers
            pass
        begin = time.perf_counter()
        epochs = 1 if given.small else 10
        seen = sum(len(images["image"]) for _ in range(epochs) for images in batches)
        rate = seen / (time.perf_counter() - begin)
    taken = report["parts"].get("steps", {}).get("rows", [])
    return [
        {"workers": workers, "loader, images/s": rate}
        | {f"{row['network']}, images/s": row["images/s"] for row in taken}
    ]


PARTS: dict[str, Callable[[Namespace, Row], list[Row]]] = {
    part.__name__: part for part in (golden, losses, projection, synchronizations, steps, loader)
}


def write(report: Row, folder: Path) -> None:
    """Write what has been measured so far."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    sections = [section(name, part) for name, part in report["parts"].items()]
    (folder / "gpu.md").write_text("\n".join([f"# {report['machine']}\n", *sections]))


def section(name: str, part: Row) -> str:
    """Return a part as Markdown."""
    lines = [f"## {name}\n", f"{part['about']} ({part['seconds']} s)\n"]
    if "failed" in part:
        return "\n".join([*lines, f"**Failed**: {part['failed']}\n"])
    columns = list(dict.fromkeys(column for row in part["rows"] for column in row))
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in part["rows"]:
        cells = [row.get(column, "-") for column in columns]
        texts = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _case(text: str) -> Case:
    return Case(*map(int, text.split(",")))


def _feature(given: Namespace) -> tuple[Batch, torch.Tensor]:
    """Return a batch of two images, and the feature that its embeddings are projected from."""
    case = Case(2, 7, 16, 16, 32) if given.small else Case(2, 150, 128, 128)
    batch = make_batch(case, present=5 if given.small else 13, device=given.device)
    channels = 64 if given.small else CHANNELS
    shape = (case.batch, channels, case.height, case.width)
    return batch, torch.randn(shape, device=given.device, requires_grad=True)


def _contrast(name: str, project: Literal["all", "used"], given: Namespace) -> Contrast:
    contrast = CONTRASTS[name](project=project)
    channels = 64 if given.small else CHANNELS
    contrast.projection = Projection(channels, contrast.embedding_dim)
    return contrast.to(given.device)


def _step(compute: Callable[..., Any], feature: torch.Tensor, batch: Batch) -> Callable[[], object]:
    return lambda: compute(feature, batch.logits, batch.target).loss.backward()


def _with_and_without_selection(
    loss: Any, batch: Batch, given: Namespace
) -> dict[str, Callable[[], object]]:
    """Return calls of a loss behind work on the device, one of which selects its pixels."""
    inputs = prepare(batch.embeddings, batch.logits, batch.target)
    selection = loss.select(*inputs)
    varying = take(batch.embeddings, selection.varying).requires_grad_()
    constant = take(batch.embeddings, selection.constant)
    size = 64 if given.small else 4096
    matrix = torch.randn(size, size, device=given.device)

    def call(selects: bool) -> None:
        for _ in range(4):
            matrix @ matrix
        chosen = loss.select(*inputs) if selects else selection
        torch.autograd.grad(loss.score(varying, constant, chosen).loss, varying)

    return {"with": partial(call, True), "without": partial(call, False)}


def _waits(call: Callable[[], object], device: str) -> int | str:
    """Count how often a call makes the host wait, by CUDA's own debugging."""
    if device == "cpu":
        return "-"
    call()  # the first one sets up libraries
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        call()
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


if __name__ == "__main__":
    sys.exit(main())
