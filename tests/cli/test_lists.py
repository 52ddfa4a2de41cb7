"""`KEY+` extends a list as in plain jsonargparse; what follows sets its last class."""

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser, Namespace

from pne_seg.cli.parser import Parser
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.sweep.arms import grid
from tests.cli.commands import write_config


class Part:
    def __init__(self, n: int = 0, factors: list[float] = [0.5]) -> None:  # noqa: B006
        self.n, self.factors = n, factors


class Holder:
    def __init__(self, parts: list[Part] | None = None) -> None:
        self.parts = parts


PART = f"{__name__}.Part"
HOLDER = {"class_path": f"{__name__}.Holder"}


def spec(**settings: object) -> dict[str, object]:
    return {"class_path": PART, "init_args": settings}


def fill(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--config", action="config")
    parser.add_argument("--parts", type=list[Part] | Part | None)
    parser.add_argument("--holder", type=Holder)
    parser.add_argument("--factors", type=list[float], default=[1.0, 2.0])
    parser.add_argument("--names", type=list[str] | None)
    return parser


APPENDED: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([], [f"--parts+={PART}", f"--parts+={PART}"]),
    ([], [f"--parts+={PART}", f"--parts+={PART}", "--parts.n=3"]),
    ([], [f"--parts=[{PART}, {PART}]", "--parts.n=3"]),
    ([], [f"--parts+=[{PART}, {PART}]", f"--parts+={{class_path: {PART}, init_args: {{n: 2}}}}"]),
    ([{"parts": [spec(n=1)]}], [f"--parts+={PART}", "--parts.n=2"]),
    ([{"parts": [spec(n=1)]}], ["--parts.n=2"]),
    ([{"parts": [spec(n=1)]}, {"parts+": [spec(n=2)]}, {"parts+": spec(n=3)}], []),
    ([{"parts+": [spec(n=2)]}, {"parts+": [spec(n=3)]}], [f"--parts+={PART}"]),
    ([{"parts": [spec(n=1)]}, {"parts": None}, {"parts+": [spec(n=2)]}], []),
    ([{"parts": spec(n=1)}], [f"--parts+={PART}"]),
    ([{"parts+": [spec(n=1)]}, {"parts": [spec(n=2)]}], []),
    ([{"holder": HOLDER}], [f"--holder.parts+={PART}", f"--holder.parts+={PART}"]),
    ([{"holder": HOLDER}], [f"--holder.parts+={PART}", "--holder.parts.factors+=4"]),
    (
        [
            {"holder": {**HOLDER, "init_args": {"parts": [spec(n=1)]}}},
            {"holder": {**HOLDER, "init_args": {"parts+": [spec(n=2)]}}},
        ],
        ["--holder.parts.n=7"],
    ),
    ([], ["--factors+=3", "--factors+=[4, 5e0]"]),
    ([{"factors": [7]}], ["--factors+=1e3"]),
    ([{"names": ["a"]}], ["--names+=5", "--names+=b"]),
]


@pytest.mark.parametrize(("configs", "args"), APPENDED)
def test_lists_are_as_plain_jsonargparse_makes_them(
    tmp_path: Path, configs: list[dict[str, Any]], args: list[str]
) -> None:
    files = [
        f"--config={write_config(tmp_path / f'{index}.yaml', config)}"
        for index, config in enumerate(configs)
    ]
    plain = fill(ArgumentParser(exit_on_error=False)).parse_args([*files, *args])
    settings = Settings.of([*files, *args, "--allow=tests"])
    settings.load()
    parser = fill(Parser())
    assert isinstance(parser, Parser)
    assert _values(parser.parse(settings)) == _values(plain)


def _values(parsed: Namespace) -> dict[str, Any]:
    values: dict[str, Any] = parsed.as_dict()
    return {key: value for key, value in values.items() if key != "config"}


def test_one_file_may_give_a_list_and_append_to_it(tmp_path: Path) -> None:
    file = write_config(tmp_path / "0.yaml", {"parts+": ["b"], "parts": ["a"]})
    settings = Settings.of(["--config", str(file), "--parts+=c"])
    settings.load()
    assert settings.tree() == {"parts": ["a", "b", "c"]}
    assert settings.get("parts") == ["a", "b", "c"]


def test_arms_of_a_sweep_append() -> None:
    (arm,) = grid([f"parts+={PART}"])
    settings = Settings.of(["--parts+=first", *arm.arguments])
    assert settings.get("parts") == ["first", PART]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--parts.n=1", f"--parts+={PART}"], r"'parts' holds n and is no list"),
        (["--holder+=x"], r"--holder is no list that \+ could append to"),
        (["--parts+=[", "--names=x"], r"not valid YAML"),
    ],
)
def test_what_is_no_list_is_refused(args: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        fill_and_parse(args)


def fill_and_parse(args: list[str]) -> None:
    settings = Settings.of([*args, "--allow=tests"])
    settings.load()
    parser = fill(Parser())
    assert isinstance(parser, Parser)
    parser.parse(settings)


@pytest.mark.parametrize("path", ["{split}", "{split}2017", "{split}/_annotations.coco.json"])
def test_a_path_may_begin_with_the_split(path: str) -> None:
    settings = Settings.of(["--data.images", path, "--data.classes", "{a: 0, b: 1}"])
    settings.load()
    assert settings.tree()["data"] == {"images": path, "classes": {"a": 0, "b": 1}}
