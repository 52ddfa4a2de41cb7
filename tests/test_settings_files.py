"""A mapping gives a key once, in every YAML that is read; merge keys may be replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pne_seg.cli.settings import Settings
from pne_seg.data.classes import read_classes
from pne_seg.errors import UserError
from pne_seg.settings_files import parse_yaml
from pne_seg.sweep.arms import read_arms, read_space


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "a is given twice, in lines 1 and 3"),
        ("data:\n  init_args:\n    n: 1\n    n: 1\n", "data.n is given twice, in lines 3 and 4"),
        ("- {x: 1}\n- x: 1\n  y: 2\n  'x': 3\n", "x is given twice, in lines 2 and 4"),
        ("{a: 1, a: 2}", "a is given twice, in line 1"),
        ("yes: 1\non: 2\n", "yes and on are the same key in YAML"),
        ("1: a\n0x1: b\n", "1 and 0x1 are the same key"),
        ("loss: '{a: 1, a: 2}'\n", "loss: a is given twice"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "b.y is given twice, in lines 4 and 5"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_lines(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "some.yaml")
    assert str(caught.value).startswith(f"some.yaml: {said}")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n",
        "all: [&a {<<: &b {x: 1}, x: 2}, *b]\nc: {<<: *a, y: 3}\n",  # merged before it is built
        "a: &a {x: 1}\nb: &b {x: 2}\nc: {<<: [*a, *b]}\n",
        "{a: {x: 1}, b: {x: 1}, c: [{x: 1}, {x: 1}]}",
        "1: a\n'1': b\n",
        "text: 'a: b: c'\n",
    ],
)
def test_all_else_is_read_as_pyyaml_does(text: str) -> None:
    assert parse_yaml(text, "some.yaml") == yaml.safe_load(text)


def test_every_file_and_flag_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text("trainer: {max_epochs: 1}\ntrainer: {max_steps: 2}\n", "utf-8")
    reads: list[Callable[[], object]] = [
        lambda: read_classes(str(file)),
        lambda: read_arms(file),
        lambda: read_space(file),
    ]
    for read in reads:
        with pytest.raises(UserError, match=r"given\.yaml: trainer is given twice, in lines 1"):
            read()
    with pytest.raises(UserError, match=r"given\.yaml: trainer is given twice, in lines 1"):
        Settings.of(["--config", str(file)]).load()
    for value in ("{a: 1, a: 2}", "[{a: 1, a: 2}]", "{b: {a: 1, a: 2}}"):
        with pytest.raises(UserError, match=r"--model\.loss: .*a is given twice"):
            Settings.of(["--model.loss", value])
