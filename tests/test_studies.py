"""The studies of docs/results.md: every arm of every documented sweep takes a training step."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pne_seg.cli.sweep import build_parser
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


def arms() -> Iterator[tuple[list[str], list[str], ArmSettings]]:
    """Yield configs, overrides and arm of every documented sweep."""
    for text in SWEEPS:
        given, overrides = build_parser().parse_known_args((arguments(text) or [])[1:])
        for arm in read_arms(REPOSITORY / given.arms):
            yield [str(REPOSITORY / path) for path in given.config], overrides, arm


ARMS = list(arms())


def test_every_study_is_documented() -> None:
    text = " ".join(SWEEPS)
    for file in STUDIES.iterdir():
        assert f"configs/studies/{file.name}" in text
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configs", "overrides", "arm"),
    ARMS,
    ids=[f"{Path(configs[-1]).stem}, {arm.name}" for configs, _, arm in ARMS],
)
def test_every_arm_takes_a_training_step(
    configs: list[str], overrides: list[str], arm: ArmSettings, tmp_path: Path
) -> None:
    if "camvid" in configs[0]:
        write_tree(tmp_path / "data")
        small = ["--data.root", str(tmp_path / "data"), "--data.batch_size", "2"]
    else:
        small = SMALL
    files = [part for path in configs for part in ("--config", path)]
    untrained = ["--model.network.encoder_weights", "null", "--model.init_from", "null"]
    run = command("fit", *files, *overrides, *arm.arguments, *small, *untrained, *DRY)
    assert run.trainer.global_step == 1
    assert run.trainer.callback_metrics["train/loss"].isfinite()


def test_hard_pixels_are_those_that_other_seeds_baselines_get_wrong() -> None:
    right = {
        "baseline": {
            "0": np.array([False, True, True, True]),  # 1 is wrong in both others, 3 in one
            "1": np.array([True, False, True, False]),
            "2": np.array([True, False, True, True]),
        },
        "arm": {"0": np.array([True, False, True, True])},
    }
    hard, others = table(right)
    # Of seed 0, pixels 1 and 3 are hard: the baseline has both right, the arm one.
    assert hard[:6] == ["arm", "hard", "50.00", "100.00", "50.00", "-50.00"]
    assert others[:6] == ["arm", "others", "50.00", "50.00", "100.00", "+50.00"]
