"""The schedule against its formula, and what a resume does to settings."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from pne_seg.optim import WarmupPoly
from pne_seg.resume import apply_changed_settings, optimizer_settings, set_rates

TOTAL, WARMUP, START = 40, 10, 1e-3


def optimizer_with(rates: Sequence[float]) -> Optimizer:
    return SGD(
        [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates], lr=1.0
    )


def rates_by_step(optimizer: Optimizer, schedule: WarmupPoly, steps: int) -> list[list[float]]:
    rates = []
    for _ in range(steps):
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def formula(base: float, floor: float, power: float, step: int, warmup: int) -> float:
    left: float = (1 - step / TOTAL) ** power
    rate = (base - floor) * left + floor
    if step < warmup:
        rate *= START + step / warmup * (1 - START)
    return rate


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("power", [0.9, 1.0])
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_every_step_of_every_group_follows_the_formula(
    floor: float, power: float, warmup: int
) -> None:
    bases = [0.01, 0.1]
    optimizer = optimizer_with(bases)
    schedule = WarmupPoly(optimizer, TOTAL, power, floor, warmup, START)
    actual = rates_by_step(optimizer, schedule, TOTAL + 1)
    for step in range(TOTAL + 1):  # 0, 1, the warm-up's end, the middle, the last
        expected = [formula(base, floor, power, step, warmup) for base in bases]
        assert actual[step] == pytest.approx(expected, rel=1e-12), step


def test_hand_computed_points() -> None:
    optimizer = optimizer_with([1.0])
    schedule = WarmupPoly(
        optimizer, total_steps=10, power=1.0, min_lr=0.5, warmup_steps=4, warmup_start=0.0
    )
    actual = [rate for (rate,) in rates_by_step(optimizer, schedule, 13)]
    # Step 1: (0.5 · 0.9 + 0.5) · 1/4. Beyond the end the floor stays.
    assert actual[:5] == pytest.approx([0.0, 0.2375, 0.45, 0.6375, 0.8])
    assert actual[9:] == pytest.approx([0.55, 0.5, 0.5, 0.5])


def test_without_a_length_the_rate_stays() -> None:
    optimizer = optimizer_with([0.3])
    schedule = WarmupPoly(optimizer)
    assert rates_by_step(optimizer, schedule, 3) == [[0.3]] * 3


@pytest.mark.parametrize("setting", ["total_steps", "warmup_steps"])
def test_negative_steps_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting}=-1"):
        WarmupPoly(optimizer_with([0.1]), **{setting: -1})


def test_resume_continues_exactly_and_state_holds_progress_alone() -> None:
    straight_optimizer = optimizer_with([0.01, 0.1])
    straight = WarmupPoly(straight_optimizer, TOTAL, warmup_steps=WARMUP)
    expected = rates_by_step(straight_optimizer, straight, TOTAL)

    first_optimizer = optimizer_with([0.01, 0.1])
    first = WarmupPoly(first_optimizer, TOTAL, warmup_steps=WARMUP)
    rates_by_step(first_optimizer, first, 7)
    assert set(first.state_dict()) == {"last_epoch", "_step_count", "_last_lr"}
    file = io.BytesIO()
    torch.save((first_optimizer.state_dict(), first.state_dict()), file)
    file.seek(0)
    optimizer_state, schedule_state = torch.load(file, weights_only=True)

    second_optimizer = optimizer_with([0.01, 0.1])
    second = WarmupPoly(second_optimizer, TOTAL, warmup_steps=WARMUP)
    second_optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(schedule_state)
    assert second.get_last_lr() == expected[7]
    assert rates_by_step(second_optimizer, second, TOTAL - 7) == expected[7:]


def test_the_configured_schedule_wins_over_the_restored_one() -> None:
    optimizer = optimizer_with([0.1])
    schedule = WarmupPoly(optimizer, TOTAL, power=0.9)
    rates_by_step(optimizer, schedule, 5)
    changed = WarmupPoly(optimizer_with([0.2]), 2 * TOTAL, power=1.0)
    changed.load_state_dict(schedule.state_dict())
    assert changed.last_epoch == 5
    assert changed.get_lr() == pytest.approx([0.2 * (1 - 5 / 80)])


def test_changed_settings_win_and_unchanged_ones_stay_restored() -> None:
    parameters = [torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)]
    groups: list[dict[str, Any]] = [
        {"params": [parameters[0]]},
        {"params": [parameters[1]], "lr": 0.5},
    ]
    optimizer = AdamW(groups, lr=0.1, weight_decay=0.01)
    saved = optimizer_settings(optimizer)
    assert [group["lr"] for group in saved] == [0.1, 0.5]
    assert not any({"params", "initial_lr"} & set(group) for group in saved)

    wanted = [dict(group) for group in saved]
    wanted[0].update(lr=0.2, betas=(0.5, 0.9))
    wanted[1].update(weight_decay=0.3)
    for group, scheduled in zip(optimizer.param_groups, (0.04, 0.123), strict=True):
        group["lr"] = scheduled  # as the checkpoint left it
    optimizer.param_groups[1]["betas"] = (0.85, 0.999)  # OneCycleLR schedules it too
    apply_changed_settings(optimizer, saved, wanted)

    first, second = optimizer.param_groups
    assert first["lr"] == pytest.approx(0.08)  # scheduled to 0.4 of the full rate, and still is
    assert (first["betas"], first["weight_decay"]) == ((0.5, 0.9), 0.01)
    assert second["lr"] == 0.123
    assert (second["betas"], second["weight_decay"]) == ((0.85, 0.999), 0.3)


def test_a_rate_of_zero_gives_way_to_the_new_one() -> None:
    optimizer = optimizer_with([0.0])
    saved = optimizer_settings(optimizer)
    apply_changed_settings(optimizer, saved, [{**saved[0], "lr": 0.3}])
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_another_number_of_groups_is_refused() -> None:
    optimizer = optimizer_with([0.1])
    two = optimizer_settings(optimizer_with([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"has 2 parameter groups, this run's has 1, .*resto"):
        apply_changed_settings(optimizer, two, optimizer_settings(optimizer))


def test_rates_follow_the_configuration_in_every_group() -> None:
    optimizer = optimizer_with([0.01, 0.1])
    set_rates(optimizer, None, [0.3, 0.4])
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.4]
    optimizer = optimizer_with([0.01, 0.1])
    schedule = WarmupPoly(optimizer, TOTAL, power=1.0, min_lr=1e-3)
    schedule.last_epoch = 10
    set_rates(optimizer, schedule, [0.3, 0.4])
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.009 * 0.75 + 1e-3, 0.099 * 0.75 + 1e-3])


@pytest.mark.parametrize(
    ("base", "power", "floor", "warmup", "total", "by_hand"),
    [
        # The recipe of CNNs: at half of the steps 0.0099 · 2^-0.9 + 0.0001.
        (0.01, 0.9, 1e-4, 0, 40_000, {0: 0.01, 20_000: 0.00540528, 40_000: 1e-4}),
        # That of Swin: at the warm-up's end 6e-5 · (1 - 1500/160000).
        (6e-5, 1.0, 0.0, 1500, 160_000, {0: 6e-11, 1500: 5.94375e-5, 80_000: 3e-5, 160_000: 0.0}),
    ],
)
def test_published_recipes(
    base: float, power: float, floor: float, warmup: int, total: int, by_hand: dict[int, float]
) -> None:
    optimizer = optimizer_with([base])
    schedule = WarmupPoly(optimizer, total, power, floor, warmup)
    for step in {0, 1, warmup, total // 2, total} | set(by_hand):
        schedule.last_epoch = step
        expected = (base - floor) * (1 - step / total) ** power + floor
        if step < warmup:  # mmsegmentation: rate · (1 - k), k from 1 - 1e-6 to 0
            expected *= 1 - (1 - step / warmup) * (1 - 1e-6)
        assert schedule.get_lr() == pytest.approx([expected], rel=1e-12)
        if step in by_hand:
            assert expected == pytest.approx(by_hand[step], rel=1e-6)
