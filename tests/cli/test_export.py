"""export on the command line: what is written where, what is refused, and what is never lost."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch

from pne_seg.cli import main
from pne_seg.cli.export import _formats, build_parser
from pne_seg.errors import UserError
from pne_seg.export import writer
from pne_seg.export.tracing import PixelsToLogits
from tests.allowed import load_trained
from tests.cli.commands import ALLOW, TINY, contents, refused, write_config
from tests.tiny_networks import same_tensors

WEIGHTS = ["--formats", "[safetensors]"]
FEW = {"README.md", "config.json", "model.safetensors", "segmentation.json"}


def exported(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Run a command that must succeed; returns what it prints."""
    capsys.readouterr()
    assert main(["export", *map(str, args), ALLOW]) is not None
    return capsys.readouterr().out


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_of_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    said = exported(capsys, "--run", run)
    folder = run / "export" / "best"
    assert names(folder) == FEW | {"model.onnx", "model.pt2"} | (
        {"preview.png"} if (run / "figures" / "predictions.png").is_file() else set()
    )
    after = contents(run)
    assert {name: after[name] for name in before} == before
    assert said.startswith(f"Written to {folder}\n")
    for name in ("model.onnx", "model.pt2"):
        line = next(line for line in said.splitlines() if name in line)
        assert "any size, largest difference" in line
    checkpoint = (run / "checkpoints" / "best.ckpt").stat().st_size
    found = re.search(r"The checkpoint has ([\d.]+) ([kM])B", said)
    assert found is not None
    assert float(found[1]) == round(checkpoint / {"k": 1e3, "M": 1e6}[found[2]], 2)
    assert "with contrast they would be" in said
    content = json.loads((folder / "segmentation.json").read_text())
    assert content["run"] == "tiny/0"
    assert content["checkpoint"] == "best.ckpt"
    assert content["data"]["class_names"] == [*load_trained(run).data.class_names]
    assert content["metrics"]["val"] == json.loads((run / "metrics.json").read_text())
    assert content["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert str(run.parent) not in (folder / "segmentation.json").read_text()


def test_another_checkpoint_another_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(capsys, "--run", run, "--ckpt_path", "last", *WEIGHTS)
    assert names(run / "export" / "last") == FEW | {"preview.png"}
    last = run / "checkpoints" / "last.ckpt"
    exported(capsys, "--ckpt_path", last, "--output", tmp_path / "out", *WEIGHTS)
    assert names(tmp_path / "out") == FEW | {"preview.png"}
    # The newest run of a config.
    monkeypatch.chdir(tmp_path / "root")
    shutil.rmtree(run / "export")
    exported(capsys, "--config", write_config(tmp_path / "tiny.yaml", TINY), *WEIGHTS)
    assert names(run / "export" / "best") == FEW | {"preview.png"}
    shutil.rmtree(run / "export")
    other = write_config(tmp_path / "other.yaml", TINY)
    exported(capsys, "--config", other, "--name", "tiny", *WEIGHTS)
    assert names(run / "export" / "best") == FEW | {"preview.png"}


@pytest.mark.parametrize("formats", ["torch", "torch,safetensors", "[safetensors, torch]"])
def test_formats_as_words(formats: str) -> None:
    chosen = _formats(build_parser().parse_args(["--formats", formats]).formats)
    assert chosen == [word for word in ("safetensors", "torch") if word in formats]


def test_without_the_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(capsys, "--run", run, *WEIGHTS)
    folder = run / "export" / "best"
    assert "preview.png" in (folder / "README.md").read_text()
    exported(capsys, "--run", run, "--preview", "false", *WEIGHTS)
    assert names(folder) == FEW
    assert "preview.png" not in (folder / "README.md").read_text()


def test_an_earlier_export_is_replaced_whole(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.onnx", "model.pt2", "model.safetensors", "segmentation.json"):
        (out / name).write_text("of another network")
    exported(capsys, "--run", run, "--output", out, *WEIGHTS)
    assert names(out) == FEW | {"preview.png"}
    assert same_tensors(
        load_trained(out).network.state_dict(), load_trained(run).network.state_dict()
    )
    assert names(tmp_path) == {"out", "root"}  # nothing is left beside it


def test_only_a_folder_of_an_export_is_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    for name in ("README.md", "config.json", "model.onnx"):
        mine.mkdir()
        (mine / name).write_text("mine")
        said = refused(capsys, "export", "--run", run, "--output", mine, *WEIGHTS)
        assert name in said
        assert "segmentation.json" in said
        assert contents(mine) == {name: b"mine"}
        shutil.rmtree(mine)
    mine.mkdir()
    exported(capsys, "--run", run, "--output", mine, *WEIGHTS)  # an empty one


def test_an_edited_card_is_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--run", run, "--output", out, *WEIGHTS]
    exported(capsys, *args)
    card, new = out / "README.md", out / "README.new.md"
    written = card.read_bytes()
    exported(capsys, *args)  # as it was written, it is replaced
    assert not new.exists()
    edited = written.replace(b"library_name:", b"license: mit\nlibrary_name:")
    for content in (edited, b"mine\n", written + b"\nMore.\n", b"\xff"):
        card.write_bytes(content)
        assert main(["export", *map(str, args), ALLOW]) is not None
        assert "README.md was edited and is kept" in capsys.readouterr().err
        assert card.read_bytes() == content
        assert new.read_bytes() == written
    card.write_bytes(edited)
    assert main(["export", *map(str, args), "--preview", "false", ALLOW]) is not None
    assert "README.md names preview.png, which is not there" in capsys.readouterr().err
    new.write_text("mine too")
    assert "README.new.md was edited" in refused(capsys, "export", *args)
    assert new.read_text() == "mine too"
    new.replace(card)
    exported(capsys, *args)
    assert card.read_text() == "mine too"
    card.unlink()
    exported(capsys, *args)
    assert card.read_bytes() == written
    assert not new.exists()


def test_an_export_stopped_midway_is_not_loaded_and_can_be_done_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    args = ["--run", run, "--output", out, *WEIGHTS]
    real = Path.replace
    for stop in ("README.md", "config.json", "model.safetensors", "segmentation.json"):
        exported(capsys, *args)

        def stopped(source: Path, target: Path, stop: str = stop) -> Path:
            if source.name == stop:
                raise KeyboardInterrupt
            return real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", stopped)
            with pytest.raises(SystemExit):
                main(["export", *map(str, args), ALLOW])
        with pytest.raises(UserError, match=r"stopped midway\. Export it again"):
            load_trained(out)
    exported(capsys, *args)
    load_trained(out)


def test_a_size_of_two_numbers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for size in (["--size", 64, 96], ["--size", "[64, 96]"], ["--size=64,96"]):
        said = exported(capsys, "--run", run, "--output", out, "--formats", "[torch]", *size)
        assert "only 64×96 pixels" in said
    program = torch.export.load(out / "model.pt2").module()
    assert program(torch.zeros(3, 3, 64, 96)).shape == (3, 11, 64, 96)
    with pytest.raises(Exception, match="96"):
        program(torch.zeros(1, 3, 64, 128))


def test_what_disagrees_is_not_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    exported(capsys, "--run", run, "--output", out, *WEIGHTS)
    before = contents(out)
    real = PixelsToLogits.forward
    monkeypatch.setattr(PixelsToLogits, "forward", lambda self, images: real(self, images) + 0.01)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--run", str(run), "--output", str(out), "--formats", "[torch]", ALLOW])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "model.pt2 returns logits up to 0.01 away from the network's" in said
    assert "Nothing was written" in said
    assert contents(out) == before
    assert names(tmp_path) == {"out", "root"}


def test_refusals(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    said = refused(capsys, "export", "--run", run, "--output", other)
    assert "thesis.tex" in said
    assert names(other) == {"thesis.tex"}
    assert "is a file" in refused(capsys, "export", "--run", run, "--output", other / "thesis.tex")
    assert "nearest is --formats" in refused(capsys, "export", "--run", run, "--format", "[onnx]")
    said = refused(capsys, "export", "--run", run, "--formats", "[onxx]")
    assert "'onxx' is none of safetensors, onnx, torch" in said
    assert "empty" in refused(capsys, "export", "--run", run, "--formats", "[]")
    assert "empty" in refused(capsys, "export", "--run", run, "--formats", "")
    for size in ("[0, 4]", "big", "256", "[1, 2, 3]", "[-64, 64]"):
        said = refused(capsys, "export", "--run", run, "--size", size)
        assert f"--size {size}: expected [HEIGHT, WIDTH]" in said
    for output in ("", "null"):
        said = refused(capsys, "export", "--run", run, "--output", output)
        assert "--output needs a path" in said
    for given in (["--run", run], ["--ckpt_path", run / "checkpoints" / "best.ckpt"]):
        for more in (["--config", write_config(tmp_path / "tiny.yaml", TINY)], ["--name", "tiny"]):
            said = refused(capsys, "export", *given, *more)
            assert f"{given[0]} brings its run's own config" in said
    assert "no config.yaml" in refused(capsys, "export", "--run", other)
    assert "does not exist" in refused(capsys, "export", "--ckpt_path", tmp_path / "a.ckpt")
    assert "last" in refused(capsys, "export", "--run", run, "--ckpt_path", "first")
    stray = shutil.copy(run / "checkpoints" / "best.ckpt", other / "stray.ckpt")
    assert "lies in no run's folder" in refused(capsys, "export", "--ckpt_path", stray)
    new = write_config(tmp_path / "new.yaml", TINY)
    monkeypatch.chdir(tmp_path)
    assert "No checkpoint" in refused(capsys, "export", "--config", new)

    monkeypatch.setattr(writer, "find_spec", lambda name: None if name == "onnxscript" else 1)
    said = refused(capsys, "export", "--run", run, "--formats", "[onnx, torch]")
    assert "onnxscript" in said
    assert "pip install 'pne-seg[export]'" in said
    assert "formats=[safetensors, torch]" in said
    assert not (run / "export").exists()
    exported(capsys, "--run", run, *WEIGHTS)  # which needs none of it


def test_without_the_packages_of_onnx_it_is_left_out_with_a_word(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "find_spec", lambda name: None if name == "onnx" else 1)
    capsys.readouterr()
    assert main(["export", "--run", str(run), ALLOW]) is not None
    assert "Left out: onnx. For it, pip install 'pne-seg[export]'" in capsys.readouterr().err
    written = names(run / "export" / "best")
    assert {"model.safetensors", "model.pt2"} <= written
    assert "model.onnx" not in written


# ---- the hub -----------------------------------------------------------------------------------


class Hub:
    """Stands for the hub: keeps what it is told."""

    told: list[tuple[str, tuple[Any, ...], dict[str, Any]]]
    refuses = False
    private: bool | None = None  # where there is such a repository

    def repo_exists(self, _: str) -> bool:
        return self.private is not None

    def repo_info(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def create_repo(self, *args: Any, **settings: Any) -> str:
        if self.refuses:
            raise ValueError("403: you may not write to user/name")
        self.told.append(("create_repo", args, settings))
        return "https://hub/user/name"

    def upload_folder(self, *args: Any, **settings: Any) -> None:
        self.told.append(("upload_folder", args, settings))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(Hub, "told", [], raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    return Hub


def test_push(run: Path, hub: type[Hub], capsys: pytest.CaptureFixture[str]) -> None:
    said = exported(capsys, "--run", run, "--push", "user/name", *WEIGHTS)
    assert "Uploaded to https://hub/user/name" in said
    assert "hf_secret" not in said
    (first, (repository,), made), (second, _, sent) = hub.told
    assert (first, second) == ("create_repo", "upload_folder")
    assert repository == sent["repo_id"] == "user/name"
    assert made == {"private": True, "exist_ok": True}
    assert sent["folder_path"] == run / "export" / "best"
    exported(capsys, "--run", run, "--push", "user/name", "--public", "true", *WEIGHTS)
    assert hub.told[2][2]["private"] is False


def test_a_push_replaces_an_earlier_one_whole(
    run: Path, hub: type[Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    card = run / "export" / "best" / "README.md"
    exported(capsys, "--run", run, *WEIGHTS)
    card.write_text("mine")
    exported(capsys, "--run", run, "--push", "user/name", *WEIGHTS)
    sent = hub.told[1][2]
    assert {*sent["allow_patterns"]} >= FEW
    assert "README.new.md" not in sent["allow_patterns"]
    assert {*sent["delete_patterns"]} >= {"model.onnx", "model.pt2"}
    assert not {*sent["delete_patterns"]} & {*sent["allow_patterns"]}


@pytest.mark.parametrize(
    ("there", "args", "shown"),
    [
        (None, [], True),
        (None, ["--public", "true"], False),
        (None, ["--public", "true", "--preview", "true"], True),
        (False, [], False),  # a repository that is public already
        (True, ["--public", "true"], True),  # one that stays private
    ],
)
def test_the_picture_is_for_all_to_see_only_if_asked_for(
    there: bool | None,
    args: list[str],
    shown: bool,
    run: Path,
    hub: type[Hub],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hub, "private", there)
    given = ["--run", str(run), "--push", "user/name", *args, *WEIGHTS]
    assert main(["export", *given, ALLOW]) is not None
    said = capsys.readouterr().err
    assert ("Left out: preview.png" in said) is not shown
    sent = hub.told[1][2]
    assert ("preview.png" in sent["allow_patterns"]) is shown
    assert ("preview.png" in sent["delete_patterns"]) is not shown
    card = (run / "export" / "best" / "README.md").read_text()
    assert ("preview.png" in card) is shown


def test_push_refusals(
    run: Path,
    hub: type[Hub],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = ["--run", run, *WEIGHTS]
    assert "user/name" in refused(capsys, "export", *args, "--push", "name")
    monkeypatch.setattr(Hub, "refuses", True)
    said = refused(capsys, "export", *args, "--push", "user/name")
    assert "you may not write" in said
    assert f"The export is whole in {run / 'export' / 'best'}" in said
    shutil.rmtree(run / "export")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    said = refused(capsys, "export", *args, "--push", "user/name")
    assert "hf auth login" in said
    assert "HF_TOKEN" in said
    assert not (run / "export").exists()  # told before anything is written
    assert hub.told == []
