"""The studies of docs/results.md: every arm of every documented sweep takes a training step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pne_seg.cli.sweep import build_parser
from pne_seg.errors import UserError
from pne_seg.sweep.arms import read_arms
from pne_seg.sweep.cells import ArmSettings
from tests.cli.commands import DRY, REPOSITORY, SMALL, command
from tests.data.camvid_tree import write_tree
from tests.documented import arguments, shell_commands
from tools.hard_pixels import table

STUDIES = REPOSITORY / "configs" / "studies"
SWEEPS = sorted(
    {
        shown.text
        for shown in shell_commands()
        if "cli.py sweep --config configs/studies" in shown.text
    }
)


def arms() -> Iterator[Any]:
    """Yield configs, overrides and arm of every documented sweep."""
    for text in SWEEPS:
        given, overrides = build_parser().parse_known_args((arguments(text) or [])[1:])
        configs = [str(REPOSITORY / path) for path in given.config]
        for arm in read_arms(REPOSITORY / given.arms):
            yield pytest.param(configs, overrides, arm, id=f"{given.name}, {arm.name}")


ARMS = list(arms())


def test_every_study_is_documented() -> None:
    text = " ".join(SWEEPS)
    assert len(ARMS) > 20
    for file in STUDIES.iterdir():
        assert f"configs/studies/{file.name}" in text
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize(("configs", "overrides", "arm"), ARMS)
def test_every_arm_takes_a_training_step(
    configs: list[str], overrides: list[str], arm: ArmSettings, tmp_path: Path
) -> None:
    if Path(configs[0]).stem == "camvid":
        write_tree(tmp_path / "data")
        small = ["--data.root", str(tmp_path / "data"), "--data.batch_size", "2"]
    else:
        small = SMALL
    files = [part for path in configs for part in ("--config", path)]
    untrained = ["--model.network.encoder_weights", "null", "--model.init_from", "null"]
    run = command("fit", *files, *overrides, *arm.arguments, *small, *untrained, *DRY)
    assert run.trainer.global_step == 1
    metrics = run.trainer.callback_metrics
    assert metrics["train/loss"].isfinite()
    contrast = dict(arm.overrides).get("model.contrast", "null")
    assert ("train/loss_contrast" in metrics) is (contrast != "null")


def test_hard_pixels_are_those_that_other_seeds_baselines_get_wrong() -> None:
    right = {
        "baseline": {
            "0": np.array([False, True, True, True]),
            "1": np.array([True, False, True, False]),
            "2": np.array([True, False, True, True]),
        },
        "arm": {
            "0": np.array([True, False, True, True]),
            "1": np.array([True, True, True, False]),
        },
    }
    # Wrong in one or both of the other baselines: of seed 0 pixels 1 and 3, of seed 1 pixels 0
    # and 1. Accuracies of the baseline there are 1 and 1/2, of the arm 1/2 and 1.
    hard, others, whole = table(right)
    assert hard[:6] == ["arm", "hard", "50.00", "75.00", "75.00", "+0.00"]
    # Of the others: baseline 1/2 and 1/2, arm 1 and 1/2.
    assert others[:6] == ["arm", "others", "50.00", "50.00", "75.00", "+25.00"]
    # Of all: baseline 3/4 and 1/2, arm 3/4 and 3/4. t of one degree of freedom: 12.706.
    assert whole[:6] == ["arm", "all", "100.00", "62.50", "75.00", "+12.50"]
    assert whole[6] == f"{12.5 - 12.5 * 12.7062:+.2f} to {12.5 + 12.5 * 12.7062:+.2f}"


def test_hard_pixels_need_two_seeds() -> None:
    with pytest.raises(UserError, match="one seed"):
        next(table({"baseline": {"0": np.array([True])}}))
