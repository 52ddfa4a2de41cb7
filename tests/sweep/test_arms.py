"""Arms of a sweep: grids of settings and files of named sets."""

from pathlib import Path

import pytest

from pne_seg.errors import UserError
from pne_seg.sweep.arms import grid, read_arms


def test_a_grid_has_every_combination_and_begins_with_the_baseline() -> None:
    arms = grid(["model.contrast=null,PNE", "--model.optimizer.lr=1e-3,1e-2"])
    assert [arm.name for arm in arms] == [
        "contrast=null,lr=1e-3",
        "contrast=null,lr=1e-2",
        "contrast=PNE,lr=1e-3",
        "contrast=PNE,lr=1e-2",
    ]
    assert arms[2].arguments == ["--model.contrast", "PNE", "--model.optimizer.lr", "1e-3"]
    (only,) = grid([])
    assert (only.name, only.arguments) == ("all", [])


def test_commas_in_brackets_belong_to_a_value() -> None:
    arms = grid(["model.inference.window=null,[512, 512],'a,b'"])
    assert [arm.overrides[0][1] for arm in arms] == ["null", "[512, 512]", "'a,b'"]


def test_names_are_as_short_as_they_can_be_told_apart_and_name_a_folder() -> None:
    arms = grid(["model.contrast.weight=1", "data.weight=2", "data.root=/a/b"])
    assert [arm.name for arm in arms] == ["contrast.weight=1,data.weight=2,root=-a-b"]


def test_a_file_names_arms(tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(
        "pne:\n"
        "cross-entropy: {baseline: true, model.contrast: null}\n"
        "strong: {model.contrast.weight: 2.5, data.classes: [road, sky], model.compile: true}\n"
    )
    arms = read_arms(file)
    assert [(arm.name, arm.arguments) for arm in arms] == [
        ("cross-entropy", ["--model.contrast", "null"]),
        ("pne", []),
        (
            "strong",
            [
                *("--model.contrast.weight", "2.5", "--data.classes", "[road, sky]"),
                *("--model.compile", "true"),
            ],
        ),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "expected arms by name"),
        ("a: 3", "a is 3, expected 'setting: value'"),
        ("a: {}\nb: {}", "one arm has 'baseline: true'; here none does"),
        ("a: {baseline: true}\nb: {baseline: true}", "here a, b do"),
        ("../a: {baseline: true}", "holds a separator"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "arms.yaml").write_text(content)
    with pytest.raises(UserError, match=said):
        read_arms(tmp_path / "arms.yaml")


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["lr"], "^lr: expected KEY=V1,V2"),
        (["=3"], "expected KEY=V1,V2"),
        (["lr="], "expected KEY=V1,V2"),
        (["lr=1", "lr=2"], "^lr is given twice"),
        (["lr=1,1"], "Two arms would be called lr=1"),
    ],
)
def test_mistakes_in_a_grid(sets: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        grid(sets)
