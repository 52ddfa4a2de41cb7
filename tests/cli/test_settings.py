"""Files merge left to right, classes change afresh, and nothing hides under a null."""

import re
from pathlib import Path
from typing import Any

import pytest

from pne_seg.cli.merging import merge, same_class
from pne_seg.cli.settings import Settings, read_config
from pne_seg.errors import UserError
from tests.cli.commands import write_config

PNE = {"class_path": "PNE", "init_args": {"temperature": 0.7, "weight": 1.1}}
CONTRAST: dict[str, Any] = {"model": {"contrast": PNE}}
OFF: dict[str, Any] = {"model": {"contrast": None}}


def fold(folder: Path, configs: list[Any], args: list[str]) -> Settings:
    """Settings of `--config 0.yaml --config 1.yaml … *args`."""
    files = []
    for index, config in enumerate(configs):
        files += ["--config", str(write_config(folder / f"{index}.yaml", config))]
    settings = Settings.of([*files, *args])
    settings.load()
    return settings


def overrides(settings: Settings) -> list[str]:
    return [token for override in settings.overrides for token in override.tokens]


def test_later_files_win_key_by_key_and_lists_replace(tmp_path: Path) -> None:
    first = {"trainer": {"max_epochs": 1, "devices": [0, 1]}, "name": "first"}
    second = {"trainer": {"devices": [2], "precision": "bf16"}}
    third = {"trainer": {"max_epochs": 3}}
    assert fold(tmp_path, [first, second, third], []).tree() == {
        "trainer": {"max_epochs": 3, "devices": [2], "precision": "bf16"},
        "name": "first",
    }


def test_merging_leaves_its_inputs_alone() -> None:
    base: dict[str, Any] = {"a": {"b": 1}}
    merge(base, {"a": {"b": 2}}, "file")
    assert base == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"class_path": "Other"}, {"class_path": "Other"}),
        (
            {"class_path": "Other", "init_args": {"weight": 2}},
            {"class_path": "Other", "init_args": {"weight": 2}},
        ),
        (
            {"class_path": "pne_seg.PNE", "init_args": {"weight": 2}},
            {"class_path": "pne_seg.PNE", "init_args": {"temperature": 0.7, "weight": 2}},
        ),
        (
            {"init_args": {"weight": 2}},
            {"class_path": "PNE", "init_args": {"temperature": 0.7, "weight": 2}},
        ),
        ("pne_seg.PNE", {**PNE, "class_path": "pne_seg.PNE"}),
        ("Other", "Other"),
        (None, None),
    ],
)
def test_a_later_file_changes_the_class_afresh_or_adds_to_it(
    tmp_path: Path, later: object, expected: object
) -> None:
    settings = fold(tmp_path, [CONTRAST, {"model": {"contrast": later}}], [])
    assert settings.tree()["model"]["contrast"] == expected


def test_settings_for_a_class_that_an_earlier_file_names_shortly(tmp_path: Path) -> None:
    short = {"model": {"contrast": "PNE"}}
    later = {"model": {"contrast": {"init_args": {"weight": 2}}}}
    merged = fold(tmp_path, [short, later], []).config["model"]["contrast"]
    assert merged == {"class_path": "PNE", "init_args": {"weight": 2}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("PNE", "pne_seg.PNE", True),
        ("pne_seg.contrast.component.PNE", "pne_seg.PNE", True),
        ("torch.optim.AdamW", "torch.optim.adamw.AdamW", True),
        ("torch.optim.AdamW", "torch.optim.Adam", False),
        ("PNE", "PixelContrast", False),
        ("no.such.module.PNE", "pne_seg.PNE", False),
    ],
)
def test_class_names_in_full_and_in_short(one: str, other: str, same: bool) -> None:
    assert same_class(one, other) is same
    assert same_class(other, one) is same


@pytest.mark.parametrize(
    "swap",
    [
        ["--model.contrast=Other"],
        ["--model.contrast.class_path=Other"],
        ["--model.contrast={class_path: Other}"],
        ['--model.contrast={"class_path": "Other", "init_args": {"weight": 3}}'],
        ["--model.contrast=Other", "--model.contrast.weight=3"],
        ["--model.contrast=null", "--model.contrast=Other", "--model.contrast.weight=3"],
    ],
)
@pytest.mark.parametrize("earlier", [[], ["--model.contrast.temperature=0.5"]])
def test_a_class_from_the_command_line_drops_what_the_old_one_had(
    tmp_path: Path, swap: list[str], earlier: list[str]
) -> None:
    settings = fold(tmp_path, [CONTRAST, {"seed_everything": 1}], [*earlier, *swap])
    tree = settings.tree()
    assert [*tree] == ["model", "seed_everything"]
    contrast = tree["model"]["contrast"]
    spec = {"class_path": contrast} if isinstance(contrast, str) else contrast
    assert spec.pop("class_path") == "Other"
    # Settings of the command line itself stay, unless it named something else for them.
    is_kept = earlier and "{" not in swap[0] and "null" not in swap[0]
    assert settings.get("model.contrast.temperature") == ("0.5" if is_kept else None)
    assert (str(settings.get("model.contrast.weight")) == "3") == ("weight" in str(swap))


def test_classes_before_their_settings_at_any_depth(tmp_path: Path) -> None:
    args = [
        *["--model.contrast.loss.margin=2", "--model.contrast.weight=3", "--seed_everything=1"],
        *["--model.contrast.loss=Margin", "--model.contrast=Other"],
    ]
    assert fold(tmp_path, [CONTRAST], args).tree()["model"]["contrast"] == {
        "class_path": "Other",
        "init_args": {
            "loss": {"class_path": "Margin", "init_args": {"margin": "2"}},
            "weight": "3",
        },
    }


@pytest.mark.parametrize("first", ["--model.contrast", "--model.contrast.class_path"])
@pytest.mark.parametrize("second", ["--model.contrast", "--model.contrast.class_path"])
def test_the_last_of_two_classes_on_the_command_line_starts_afresh(
    tmp_path: Path, first: str, second: str
) -> None:
    args = [f"{first}=PNE", "--model.contrast.weight=3", f"{second}=Other"]
    contrast = fold(tmp_path, [{}], args).tree()["model"]["contrast"]
    assert contrast in ("Other", {"class_path": "Other"})


@pytest.mark.parametrize("name", ["PNE", "pne_seg.PNE", "pne_seg.contrast.component.PNE"])
@pytest.mark.parametrize("key", ["--model.contrast", "--model.contrast.class_path"])
def test_naming_the_class_that_is_there_keeps_its_settings(
    tmp_path: Path, key: str, name: str
) -> None:
    args = [key, name, "--model.contrast.temperature", "0.5"]
    settings = fold(tmp_path, [CONTRAST], args)
    assert settings.get("model.contrast.weight") == 1.1
    assert settings.get("model.contrast.temperature") == "0.5"  # read by its type later
    assert settings.get("model.contrast.class_path") == name


def test_a_swap_within_a_component_leaves_its_neighbors(tmp_path: Path) -> None:
    inner = {"class_path": "Inner", "init_args": {"depth": 2}}
    outer = {"class_path": "Outer", "init_args": {"inner": inner, "width": 4}}
    settings = fold(tmp_path, [{"model": {"network": outer}}], ["--model.network.inner", "Other"])
    assert settings.tree()["model"]["network"] == {
        "class_path": "Outer",
        "init_args": {"inner": "Other", "width": 4},
    }


@pytest.mark.parametrize(
    ("configs", "args"),
    [
        ([OFF, {"model": {"contrast": {"init_args": {"weight": 2}}}}], []),
        ([CONTRAST, OFF, {"model": {"contrast": {"init_args": {"weight": 2}}}}], []),
        ([CONTRAST], ["--model.contrast", "null", "--model.contrast.weight", "2"]),
        ([CONTRAST], ["--model.contrast=null", "--model.contrast.init_args.weight=2"]),
        ([{}], ["--model.contrast=null", "--model.contrast.weight=2"]),
        ([OFF], ["--model.contrast.weight", "2"]),
        ([OFF], ["--model.contrast.init_args.weight=2"]),
        ([OFF], ["--model.contrast=PNE", "--model.contrast=null", "--model.contrast.weight=2"]),
    ],
)
def test_a_key_under_null_is_refused(tmp_path: Path, configs: list[Any], args: list[str]) -> None:
    with pytest.raises(UserError, match=r"'model\.contrast' is null.*--model\.contrast CLASS"):
        fold(tmp_path, configs, args)


def test_the_refused_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "1.yaml"))):
        fold(tmp_path, [OFF, {"model": {"contrast": {"init_args": {"weight": 2}}}}], [])


@pytest.mark.parametrize(
    ("configs", "args"),
    [
        ([OFF, {"model": {"contrast": {"class_path": "PNE", "init_args": {"weight": 2}}}}], []),
        ([OFF], ["--model.contrast", "PNE", "--model.contrast.weight", "2"]),
        ([OFF], ["--model.contrast={class_path: PNE, init_args: {weight: 2}}"]),
        ([CONTRAST, OFF], ["--model.contrast.class_path=PNE", "--model.contrast.weight=2"]),
        ([CONTRAST, OFF], ["--model.contrast.weight=2", "--model.contrast=PNE"]),
        (
            [CONTRAST],
            ["--model.contrast=null", "--model.contrast=PNE", "--model.contrast.weight=2"],
        ),
    ],
)
def test_a_class_brings_a_null_slot_back_afresh(
    tmp_path: Path, configs: list[Any], args: list[str]
) -> None:
    settings = fold(tmp_path, configs, args)
    assert str(settings.get("model.contrast.weight")) == "2"
    assert settings.get("model.contrast.temperature") is None


def test_switching_off_drops_what_came_before(tmp_path: Path) -> None:
    settings = fold(tmp_path, [CONTRAST], ["--model.contrast.weight=2", "--model.contrast=null"])
    assert settings.tree() == OFF


def test_both_spellings_of_a_value() -> None:
    args = ["--a=1", "--b", "2", "--c.d=x=y", "--e", "-1", "--f=", "--flag", "--g", "3"]
    settings = Settings.of([*args, "--config=one.yaml", "-c", "two.yaml", "--help"])
    assert [(override.key, override.value) for override in settings.overrides] == [
        ("a", "1"), ("b", "2"), ("c.d", "x=y"), ("e", "-1"), ("f", ""), ("flag", None), ("g", "3"),
        ("help", None),
    ]  # fmt: skip
    assert settings.files == [Path("one.yaml"), Path("two.yaml")]


def test_the_folded_command_line_says_what_the_settings_say(tmp_path: Path) -> None:
    args = ["--seed_everything", "3", "--data.help=CamVid", "--help"]
    flag, config, *actions = fold(tmp_path, [CONTRAST], args).arguments()
    assert (flag, actions) == ("--config", ["--data.help=CamVid", "--help"])
    expected = {**CONTRAST, "seed_everything": "3"}
    assert read_config(write_config(tmp_path / "folded.yaml", config)) == expected


@pytest.mark.parametrize("first", [{"dice": "Dice"}, None])
def test_mappings_on_the_command_line(tmp_path: Path, first: dict[str, str] | None) -> None:
    config = {"model": {"extra_losses": first, "inference": {"flip": True}, **CONTRAST["model"]}}
    args = ["--model.extra_losses={focal: Focal}", "--model.inference={scales: [0.5]}"]
    model = fold(tmp_path, [config], [*args, "--model.contrast={weight: 2}"]).tree()["model"]
    assert model["extra_losses"] == {"focal": "Focal"}
    assert model["inference"] == {"flip": True, "scales": [0.5]}
    assert model["contrast"]["init_args"] == {"temperature": 0.7, "weight": 2}
    more = fold(tmp_path, [config], ["--model.extra_losses.focal=Focal"] if first else [])
    expected = {**first, "focal": "Focal"} if first else None
    assert more.tree()["model"]["extra_losses"] == expected


def test_the_last_of_repeated_values_is_taken_out() -> None:
    settings = Settings.of(["--run", "one", "--seed_everything", "3", "--run", "two"])
    assert settings.pop("run") == "two"
    assert overrides(settings) == ["--seed_everything=3"]
    assert settings.pop("run") is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fit.yaml"], "'fit.yaml' belongs to no key"),
        (["--a", "1", "2"], "'2' belongs to no key"),
        (["--config"], "--config needs a file"),
        (["--a", "1", "--config", "--b", "2"], "--config needs a file"),
    ],
)
def test_arguments_that_make_no_sense(args: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        Settings.of(args)


@pytest.mark.parametrize("value", ["{class_path: PNE", "{a: b: c}"])
def test_malformed_yaml_on_the_command_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError, match=r"--model\.contrast .* is not valid YAML"):
        fold(tmp_path, [CONTRAST], ["--model.contrast", value])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model:\n  a: 1\n b: 2\n", r"bad\.yaml is not valid YAML: .*line 3"),
        ("- a\n- b\n", r"bad\.yaml must hold 'key: value' lines, not a list"),
        ("just words", r"bad\.yaml must hold 'key: value' lines, not a str"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_config(write_config(tmp_path / "bad.yaml", content))
    assert "\n" not in str(caught.value)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert fold(tmp_path, [CONTRAST, "# nothing\n"], []).tree() == CONTRAST


def test_a_missing_file_names_those_that_are_spelled_like_it(tmp_path: Path) -> None:
    for name in ("scenes", "scene", "camvid"):
        write_config(tmp_path / f"{name}.yaml", {})
    (tmp_path / "scens.txt").touch()
    with pytest.raises(UserError, match="No such file") as caught:
        read_config(tmp_path / "scens.yaml")
    for name in ("scens.yaml", "scenes.yaml", "scene.yaml"):
        assert str(tmp_path / name) in str(caught.value)
    assert "camvid" not in str(caught.value)
    assert "scens.txt" not in str(caught.value)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        read_config(tmp_path)


def test_plain_values_are_no_classes(tmp_path: Path) -> None:
    config = {"model": {"inference": {"flip": True}, "name": "x"}, "trainer": {"logger": PNE}}
    args = ["--model.inference=null", "--model.name=", "--trainer.logger=false"]
    tree = fold(tmp_path, [config], args).tree()
    assert tree == {"model": {"inference": None, "name": ""}, "trainer": {"logger": "false"}}
    spec = {"class_path": "pne_seg.Inference", "init_args": {"flip": False}}
    named = fold(tmp_path, [config, {"model": {"inference": spec}}], []).tree()
    assert named["model"]["inference"] == spec
