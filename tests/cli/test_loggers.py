"""Loggers beside `metrics.csv`: what they hold is read back and compared with that file."""

import csv
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from pne_seg.runs import read_history
from tests.cli.commands import QUICK, REPOSITORY, TINY, command, refused, write_config

FIGURES = ("train_batch", "curves", "predictions", "class_iou", "confusion_matrix")
Values = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs with several loggers."""
    root = tmp_path_factory.mktemp("logged")
    config = write_config(root / "tiny.yaml", TINY)
    given = ["--config", config, "--trainer.default_root_dir", root, "--figures.num_images", 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        done = command(
            "fit", *given, "--trainer.max_epochs", 2, "--logger", "[tensorboard, wandb,mlflow]"
        )
    assert done.run_folder is not None
    return done.run_folder


def csv_history(run: Path) -> Values:
    """The values of `metrics.csv` with its own steps, of which the first is 0."""
    history = read_history(run)
    return {name: [(step - 1, value) for step, value in values] for name, values in history.items()}


def same(found: Values, run: Path) -> None:
    """Check that values are those of `metrics.csv` at the same steps."""
    expected = csv_history(run)
    assert len(expected) > 10
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        assert [value for _, value in found[name]] == pytest.approx(
            [value for _, value in values], nan_ok=True
        ), name


def best_step(run: Path) -> int:
    """The step of `metrics.csv` with the best mIoU."""
    return max(csv_history(run)["val/mIoU"], key=lambda one: one[1])[0]


def class_ious(run: Path) -> dict[str, float]:
    """IoU by class from `metrics.json`, which is of the best epoch."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {key[8:]: value for key, value in metrics.items() if key.startswith("val/IoU/")}


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Read LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    assert content[:4] == b":W&B"
    at, record = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:  # too little for a part's header
            at += left
            continue
        _, length, part = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


def test_tensorboard_has_what_the_csv_has(logged: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "epoch"]
    same({tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}, logged)

    assert events.Tags()["images"] == [f"figures/{name}" for name in FIGURES]
    for name in FIGURES[2:]:
        (image,) = events.Images(f"figures/{name}")
        with Image.open(logged / "figures" / f"{name}.png") as file:
            assert (image.width, image.height) == file.size
        assert image.step == best_step(logged)
    (table,) = events.Tensors("classes/text_summary")
    lines = table.tensor_proto.string_val[0].decode().splitlines()
    rows = {cells[0]: float(cells[1]) for line in lines[2:] if (cells := line.split(" | "))}
    assert rows == pytest.approx(class_ious(logged), abs=1e-4)
    settings = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.contrast.temperature" in settings


def test_mlflow_has_what_the_csv_has(logged: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{logged / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("tiny/0", "FINISHED")
    key = run.info.run_id
    names = [name for name in run.data.metrics if name != "epoch"]
    same(
        {n: [(one.step, one.value) for one in client.get_metric_history(key, n)] for n in names},
        logged,
    )
    assert run.data.params["model.contrast.temperature"] == "0.7"
    assert run.data.params["data.height"] == "32"

    images = [Path(file.path).name for file in client.list_artifacts(key, "images")]
    for name in FIGURES[2:]:
        assert any(i.startswith(f"figures~{name}+step+{best_step(logged)}+") for i in images)
    with Path(client.download_artifacts(key, "tables/classes.csv")).open(newline="") as file:
        rows = {row["class"]: float(row["IoU"]) for row in csv.DictReader(file)}
    assert rows == pytest.approx(class_ious(logged))
    assert (logged / "mlflow" / "artifacts" / key).is_dir()


def test_wandb_has_what_the_csv_has_without_a_network(logged: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    (file,) = (logged / "wandb").glob("offline-run-*/*.wandb")
    found: Values = {}
    media: dict[str, tuple[int, Any]] = {}
    runs, settings = [], ""
    for data in wandb_records(file.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("run"):
            runs.append((record.run.project, record.run.display_name))
        if record.HasField("config"):
            settings += str(record.config)
        row: dict[str, Any] = {}
        for item in record.history.item:
            name, *inner = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            row[name] = {**row.get(name, {}), inner[0]: value} if inner else value
        step = row.get("trainer/global_step", -1)
        for name, value in row.items():
            if isinstance(value, dict):
                media[name] = step, value
            elif name.startswith(("train/", "val/")):
                found.setdefault(name, []).append((step, float(value)))
    same(found, logged)
    assert runs[0] == ("tiny", "tiny/0")
    assert "model.contrast.temperature" in settings
    for name in FIGURES[2:]:
        step, value = media[f"figures/{name}"]
        assert step == best_step(logged)
        copy = file.parent / "files" / value["filenames"][0]
        assert copy.read_bytes() == (logged / "figures" / f"{name}.png").read_bytes()
    table = json.loads((file.parent / "files" / media["tables/classes"][1]["path"]).read_text())
    assert {row[0]: row[1] for row in table["data"]} == pytest.approx(class_ious(logged))


def test_trackio_has_what_the_csv_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read on import
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    config = write_config(tmp_path / "tiny.yaml", TINY)
    given = ["--config", config, "--trainer.default_root_dir", tmp_path, "--logger", "trackio"]
    run = command("fit", *given, "--figures.num_images", 2).run_folder
    assert run is not None
    found: Values = {}
    for row in SQLiteStorage.get_logs("tiny", "tiny/0"):
        for name, value in row.items():
            if name.startswith(("train/", "val/")):
                found.setdefault(name, []).append((row["step"], float(value)))
            elif name == "tables/classes":
                rows = {cells["class"]: cells["IoU"] for cells in value["_value"]}
                assert rows == pytest.approx(class_ious(run))
    same(found, run)
    names = " ".join(map(str, (tmp_path / "trackio").rglob("*.png")))
    assert names.count(".png") == len(FIGURES)


def test_lightnings_long_form_gets_the_runs_folder(tmp_path: Path) -> None:
    ours = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"}
    theirs = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "mine")}}
    config = yaml.safe_load(TINY)
    config["trainer"]["logger"] = [ours, theirs]
    file = write_config(tmp_path / "long.yaml", config)
    given = ["--config", file, "--trainer.default_root_dir", tmp_path, "--figures.num_images", 1]
    run = command("fit", *given).run_folder
    assert run is not None
    (events,) = (run / "tensorboard").glob("events.out.tfevents.*")
    assert b"figures/predictions" in events.read_bytes()
    assert read_history(tmp_path / "mine" / "lightning_logs" / "version_0") == read_history(run)

    # The run's config means the folder of the run that is started with it.
    again = command("fit", "--config", run / "config.yaml", *given[2:], "--name", "again")
    assert again.run_folder == tmp_path / "runs" / "again" / "0"
    assert [*(again.run_folder / "tensorboard").glob("events.out.tfevents.*")]
    # An evaluation logs nowhere.
    before = {path: path.stat().st_mtime_ns for path in (run / "tensorboard").iterdir()}
    command("validate", "--run", run, *QUICK)
    assert {path: path.stat().st_mtime_ns for path in (run / "tensorboard").iterdir()} == before


class Failing(Logger):
    """Its server is gone after the first values, and does not come back."""

    calls: ClassVar[list[str]] = []

    @property
    def name(self) -> str:
        return "failing"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("settings")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.calls.append("metrics")
        if len(self.calls) > 2:
            raise ConnectionError("the server is gone")

    def finalize(self, status: str) -> None:
        self.calls.append("end")
        raise ConnectionError("still gone")


def test_a_failing_logger_ends_no_run(tiny: Path, tmp_path: Path) -> None:
    Failing.calls.clear()
    given = ["--config", tiny, "--trainer.default_root_dir", tmp_path, "--figures.num_images", 1]
    with pytest.warns(UserWarning, match="the server is gone") as said:
        run = command(
            "fit", *given, "--trainer.logger", "tests.cli.test_loggers.Failing"
        ).run_folder
    assert sum("gone" in str(one.message) for one in said) == 1
    assert Failing.calls == ["settings", "metrics", "metrics"]
    assert run is not None
    assert len(read_history(run)["train/loss"]) == 2
    assert (run / "metrics.json").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_a_logger_that_cannot_start_is_one_message(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing listens there
    given = ["--config", tiny, "--trainer.default_root_dir", tmp_path, "--logger", "mlflow"]
    said = refused(capsys, "fit", *given)
    assert "MLFlowLogger cannot start" in said
    assert "127.0.0.1" in said


def test_words_are_checked(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(capsys, "fit", "--config", tiny, "--logger", "tensorbord")
    assert "The nearest is tensorboard." in said
    assert "tensorboard, wandb, mlflow, trackio" in said
    monkeypatch.setattr("pne_seg.cli.loggers.find_spec", lambda name: None)
    said = refused(capsys, "fit", "--config", tiny, "--logger", "csv,wandb")
    assert "pip install 'pne-seg[wandb]'" in said


def test_words_come_from_a_config_and_off_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = write_config(tmp_path / "words.yaml", TINY + "logger: [tensorboard]\n")
    given = ["--config", config, "--trainer.default_root_dir", tmp_path]
    done = command("fit", *given, "--trainer.logger", "false")
    csv_logger, other = done.trainer.loggers
    assert isinstance(csv_logger, CSVLogger)
    assert isinstance(other, TensorBoardLogger)
    # One run after the other in a process, as in a notebook.
    done = command("fit", *given, "--logger", "null", "--trainer.logger", "[TensorBoardLogger]")
    csv_logger, other = done.trainer.loggers
    assert isinstance(other, TensorBoardLogger)
    assert done.run_folder is not None
    assert Path(other.log_dir) == done.run_folder / "tensorboard"
    for name in ("one", "two"):
        command("fit", *given, "--logger", "mlflow", "--name", name)
        assert (tmp_path / "runs" / name / "0" / "mlflow" / "mlflow.db").is_file()
    done = command("fit", *given, "--logger", "null")
    assert isinstance(done.trainer.loggers[0], CSVLogger)
    assert len(done.trainer.loggers) == 1


@pytest.mark.slow
def test_trackers_are_not_loaded_unless_asked_for() -> None:
    code = "import sys, pne_seg.cli.command; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    # timm loads wandb where it is installed.
    assert not {"tensorboard", "mlflow", "trackio", "pandas"} & {*done.stdout.split()}
