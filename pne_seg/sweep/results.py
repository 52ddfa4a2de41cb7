"""What finished runs say of themselves: settings, seed and metrics; and which form an arm."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pne_seg.errors import UserError
from pne_seg.runs import METRICS, Run, open_run, read_history, read_metrics
from pne_seg.settings_files import read_yaml

_NOT_THE_METHOD = {
    *("name", "ckpt_path", "allow", "figures", "suspects", "seed_everything"),
    *(
        "last_checkpoint",
        "trainer.default_root_dir",
        "trainer.enable_model_summary",
        "trainer.enable_progress_bar",
    ),
    *("trainer.log_every_n_steps", "trainer.logger", "logger", "data.init_args.num_workers"),
}
"""Settings that may differ between runs of one arm."""


@dataclass(frozen=True)
class Result:
    """The metrics of a run's best epoch on one split.

    `settings` are without what tells runs of one method apart; `metrics` are fractions by name
    without the split, such as `IoU/road`; `images` the mIoU of each test image. Medians of seconds
    and most bytes (of the GPU or a CPU's process) are of the training, NaN if unknown.
    """

    folder: Path
    seed: int
    settings: dict[str, Any]
    split: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    images: dict[str, float]
    seconds_per_batch: float = math.nan
    peak_memory: float = math.nan


@dataclass
class Arm:
    """Runs that differ in their seed only, by seed."""

    name: str
    settings: dict[str, Any]
    runs: dict[int, Result] = field(default_factory=dict)

    def values(self, metric: str, seeds: Sequence[int]) -> list[float]:
        """Return a metric of the seeds, in their order."""
        return [self.runs[seed].metrics[metric] for seed in seeds]


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Read runs: on the test split if all were tested, else on the validation split."""
    runs = [open_run(folder) for folder in folders]
    files = [_test_metrics(run) for run in runs]
    tested = all(file is not None for file in files)
    results = [_read(run, file if tested else None) for run, file in zip(runs, files, strict=True)]
    for other in results[1:]:
        first = results[0].protocol
        for key in sorted(first.keys() | other.protocol.keys()):
            if first.get(key) != other.protocol.get(key):
                raise UserError(
                    f"{results[0].folder} and {other.folder} were measured differently: {key} is "
                    f"{first.get(key)} and {other.protocol.get(key)}. Run "
                    f"{'test' if tested else 'validate'} on both with the same settings."
                )
    return results


def group_arms(results: Sequence[Result]) -> list[Arm]:
    """Put runs of the same settings together; the first run's arm comes first."""
    arms: list[Arm] = []
    for result in results:
        arm = next((arm for arm in arms if arm.settings == result.settings), None)
        if arm is None:
            arm = Arm("baseline", result.settings)
            if arms:
                arm.name = ", ".join(differences(arms[0].settings, result.settings))
            arms.append(arm)
        if (same := arm.runs.get(result.seed)) is not None:
            raise UserError(
                f"{same.folder} and {result.folder} have the same settings and the same seed "
                f"({result.seed}). Leave one out."
            )
        arm.runs[result.seed] = result
    return arms


def name_arms(names: Sequence[str], results: Sequence[Result]) -> list[Arm]:
    """Put runs into arms by the names given for them; the first one's arm comes first."""
    arms: dict[str, Arm] = {}
    for name, result in zip(names, results, strict=True):
        arms.setdefault(name, Arm(name, result.settings)).runs[result.seed] = result
    return list(arms.values())


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Name the settings in which a configuration differs from ours, with its values.

    A class in another's place is one difference: `model.contrast InfoNCE`, not all its settings.
    """
    found = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        here, there = ours.get(key), theirs.get(key)
        if here == there:
            continue
        paths = [one.get("class_path") if isinstance(one, dict) else None for one in (here, there)]
        if isinstance(here, dict) and isinstance(there, dict) and paths[0] == paths[1]:
            inside = differences(here, there)
            found += [f"{key}.{rest}".replace(".init_args.", ".") for rest in inside]
        elif paths[1] is not None:
            found.append(f"{key} {str(paths[1]).rsplit('.', 1)[-1]}")
        else:
            found.append(f"{key} {'null' if there is None else there}")
    return found


def validation_curve(folders: Sequence[Path]) -> dict[int, float]:
    """Return validation mIoU by step from the `metrics.csv` of a run and of those it resumed."""
    return dict(point for folder in folders for point in read_history(folder).get("val/mIoU", ()))


def _test_metrics(run: Run) -> Path | None:
    """Find the test of the best weights, by the run's own protocol rather than by another."""
    files = run.folder.glob(f"test/best*/{METRICS}")
    order = [(file.parent.name != "best", -file.stat().st_mtime, file) for file in files]
    return min(order)[2] if order else None


def _read(run: Run, tested: Path | None) -> Result:
    own = _json(run.folder / METRICS)
    metrics, split = own, "val"
    if tested is not None:
        metrics, split = _json(tested), "test"
        if metrics.get("step") != own.get("step"):
            raise UserError(
                f"{tested} is of step {metrics.get('step')}, but the best epoch of {run.folder} "
                f"ended at step {own.get('step')}. Run `test --run {run.folder}` again."
            )
    config = read_yaml(run.config)
    seed = config.get("seed_everything")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(
            f"{run.config}: seed_everything is {seed}, expected the number that a run is paired by."
        )
    named = {
        name.removeprefix(f"{split}/"): float(value)
        for name, value in metrics.items()
        if name.startswith(f"{split}/") and isinstance(value, int | float) and math.isfinite(value)
    }
    if "mIoU" not in named:
        raise UserError(
            f"{tested or run.folder / METRICS} has no {split}/mIoU. Score the run again."
        )
    named.pop("majority_class_mIoU", None)
    cost = [own.get(key) for key in ("median_seconds_per_training_batch", "peak_memory_bytes")]
    seconds, memory = (math.nan if value is None else float(value) for value in cost)
    return Result(
        folder=run.folder,
        seed=seed,
        settings=_method(config),
        split=split,
        metrics=named,
        protocol=metrics.get("protocol") or {},
        images=_images(tested.parent / "images.csv") if tested is not None else {},
        seconds_per_batch=seconds,
        peak_memory=memory,
    )


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file.parent} has no {file.name}: the run has not been scored yet.")
    return read_metrics(file)


def _method(config: Any, prefix: str = "") -> dict[str, Any]:
    kept = {}
    for key, value in config.items():
        if prefix + key not in _NOT_THE_METHOD:
            nested = isinstance(value, dict)
            kept[key] = _method(value, f"{prefix}{key}.") if nested else value
    return kept


def _images(file: Path) -> dict[str, float]:
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as opened:
        return {row["name"]: float(row["mIoU"] or "nan") for row in csv.DictReader(opened)}
