"""`sweep`: every cell once, whoever works on it and however it ends."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from pne_seg.cli import main
from pne_seg.runs import create_run
from pne_seg.sweep import cells, study
from pne_seg.sweep.arms import grid
from pne_seg.sweep.cells import CellError, CellStoppedError, Worker
from pne_seg.sweep.storage import without_password
from pne_seg.sweep.study import Queue, Sweep, TaskState


class Commands:
    """Stands in for the commands of cells: writes what they leave, fails or waits as told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: list[str] = []
        self.failing: set[str] = set()
        self.slow: set[str] = set()
        self.before_third: Callable[[], None] | None = None

    def __call__(self, arguments: Sequence[str], _log: IO[str], _lock: int, worker: Worker) -> None:
        verb = arguments[0]
        if verb == "test":
            folder = Path(arguments[2])
            name = "/".join(folder.parts[-3:-1])
        else:
            name = arguments[arguments.index("--name") + 1].split("/", 1)[1]
        if len(self.seen) == 2 and self.before_third is not None:
            self.before_third()
        self.seen.append(f"{verb} {name}" + (" resumed" if "--ckpt_path" in arguments else ""))
        if name in self.failing:
            raise CellError("fit ended with code 2: error: no such data")
        if name in self.slow and worker.stop.wait(20):
            raise CellStoppedError("stopped (fit)")
        if verb == "fit":
            seed = int(arguments[arguments.index("--seed_everything") + 1])
            run = create_run(self.root, arguments[arguments.index("--name") + 1])
            config = {"seed_everything": seed, "model": {"contrast": name}}
            run.config.write_text(yaml.safe_dump(config))
            run.folder.joinpath("metrics.json").write_text(json.dumps({"step": 4}))
        else:
            test = folder / "test" / "best"
            test.mkdir(parents=True)
            value = 0.4 + 0.1 * ("PNE" in name) + 0.01 * int(name[-1])
            (test / "metrics.json").write_text(json.dumps({"step": 4, "test/mIoU": value}))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Cells whose commands take no time, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    replaced = Commands(tmp_path)
    monkeypatch.setattr(cells, "_command", replaced)
    return replaced


def plan(root: Path, seeds: Sequence[int] = (0, 1), **changed: Any) -> Sweep:
    (root / "base.yaml").write_text("trainer: {max_epochs: 1}\n")
    settings: dict[str, Any] = {
        "name": "s",
        "root": root,
        "arms": grid(["model.contrast=null,PNE"]),
        "seeds": seeds,
        "configs": [root / "base.yaml"],
        "overrides": ["--trainer.max_epochs", "2"],
    }
    return Sweep(**settings | changed)


def work(queue: Queue, jobs: int = 1, retry_failed: bool = False) -> list[TaskState]:
    seen: list[TaskState] = []
    queue.fill(retry_failed)
    queue.work([Worker(threading.Event())] * jobs, seen.append)
    return seen


EACH_ONCE = Counter(
    f"{verb} contrast={arm}/seed{seed}"
    for verb in ("fit", "test") for arm in ("null", "PNE") for seed in (0, 1)
)  # fmt: skip


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_cell_is_trained_and_tested_once(
    tmp_path: Path, commands: Commands, jobs: int
) -> None:
    queue = Queue(plan(tmp_path))
    assert {state.state for state in queue.states()} == {"new"}
    work(queue, jobs)
    assert Counter(commands.seen) == EACH_ONCE
    values = {state.key: state.value for state in queue.states()}
    assert values == {
        f"contrast={arm}/seed{seed}": pytest.approx(base + 0.01 * seed)
        for arm, base in (("null", 0.4), ("PNE", 0.5)) for seed in (0, 1)
    }  # fmt: skip
    # The same again does nothing; more seeds are added.
    work(Queue(plan(tmp_path)))
    assert Counter(commands.seen) == EACH_ONCE
    work(Queue(plan(tmp_path, seeds=[0, 1, 2])))
    assert len(commands.seen) == 12


def test_two_workers_share_the_cells(tmp_path: Path, commands: Commands) -> None:
    sweep = plan(tmp_path, seeds=range(6))
    queues = [Queue(sweep), Queue(sweep)]
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, queues))  # raises what a worker raised
    assert len(commands.seen) == 24
    assert set(Counter(commands.seen).values()) == {1}
    assert {state.state for state in queues[0].states()} == {"done"}


def test_a_cell_that_fails_leaves_the_others(tmp_path: Path, commands: Commands) -> None:
    commands.failing = {"contrast=PNE/seed0"}
    queue = Queue(plan(tmp_path))
    work(queue)
    states = {state.key: state for state in queue.states()}
    assert states["contrast=PNE/seed0"].state == "failed"
    assert "no such data" in states["contrast=PNE/seed0"].error
    assert sum(state.state == "done" for state in states.values()) == 3
    # It is not tried again unless asked for.
    commands.failing = set()
    commands.seen.clear()
    work(Queue(plan(tmp_path)))
    assert commands.seen == []
    work(Queue(plan(tmp_path)), retry_failed=True)
    assert commands.seen == ["fit contrast=PNE/seed0", "test contrast=PNE/seed0"]


def test_a_sweep_that_is_stopped_resumes(tmp_path: Path, commands: Commands) -> None:
    commands.slow = {"contrast=PNE/seed0"}
    queue, stop = Queue(plan(tmp_path)), threading.Event()
    queue.fill(retry_failed=False)
    worker = threading.Thread(target=queue.work, args=([Worker(stop)], lambda _: None))
    worker.start()
    while "fit contrast=PNE/seed0" not in commands.seen:
        time.sleep(0.05)
    stop.set()
    worker.join()
    states = {state.key: state.state for state in queue.states()}
    assert states["contrast=PNE/seed0"] == "stopped"
    # Its training had saved a checkpoint.
    checkpoints = create_run(tmp_path, "s/contrast=PNE/seed0").folder / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last.ckpt").touch()
    commands.slow = set()
    work(Queue(plan(tmp_path)))
    assert commands.seen.count("fit contrast=PNE/seed0 resumed") == 1
    assert {state.state for state in queue.states()} == {"done"}


@pytest.mark.slow
def test_the_cell_of_a_worker_that_died_is_taken_over(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "HEARTBEAT", 1)
    dead = Queue(plan(tmp_path))
    dead.fill(retry_failed=False)
    trial = dead.study.ask()  # as a worker does that is killed before the cell is done
    dead.study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    queue = Queue(plan(tmp_path))
    work(queue)
    assert Counter(commands.seen) == EACH_ONCE
    assert {state.state for state in queue.states()} == {"done"}


def test_a_queue_that_two_machines_filled_at_once(tmp_path: Path, commands: Commands) -> None:
    queue = Queue(plan(tmp_path))
    queue.fill(retry_failed=False)
    for state in queue.states():
        queue.study.enqueue_trial({}, user_attrs={"task": state.key})
    work(queue)
    assert Counter(commands.seen) == EACH_ONCE
    assert {state.state for state in queue.states()} == {"done"}


def test_what_changed_under_a_name_is_refused(tmp_path: Path, commands: Commands) -> None:
    from pne_seg.errors import UserError

    work(Queue(plan(tmp_path)))
    with pytest.raises(UserError, match="overrides changed since the study began"):
        Queue(plan(tmp_path, overrides=["--trainer.max_epochs", "3"]))
    arm = grid(["model.contrast=InfoNCE"])[0]
    renamed = type(arm)("contrast=PNE", arm.overrides)
    with pytest.raises(UserError, match="arm contrast=PNE changed since the study began"):
        Queue(plan(tmp_path, arms=[renamed]))
    changed = plan(tmp_path)
    (tmp_path / "base.yaml").write_text("trainer: {max_epochs: 9}\n")
    with pytest.raises(UserError, match="configs changed since the study began"):
        Queue(changed)
    assert len(commands.seen) == 8


def test_passwords_are_not_written_down() -> None:
    for address in ("postgresql+pg8000://me:s3:cret@host/x", "--storage=a://:s3@h"):
        shown = without_password(address)
        assert "s3" not in shown
        assert ":***@h" in shown
    assert without_password("sqlite:///runs/s.db") == "sqlite:///runs/s.db"
    assert without_password("model.a=x:y@z") == "model.a=x:y@z"


def test_a_run_without_a_validation_has_no_miou_yet(tmp_path: Path, commands: Commands) -> None:
    cell = plan(tmp_path).cells[0]
    assert cell.latest_miou(tmp_path) is None
    file = create_run(tmp_path, cell.run_name).folder / "metrics.csv"
    for rows, expected in (("", None), ("1,\n", None), ("1,\n2,0.25\n3,\n", 0.25)):
        file.write_text(f"step,val/mIoU\n{rows}")
        assert cell.latest_miou(tmp_path) == expected


def run_main(*args: object) -> int:
    try:
        main(["sweep", *map(str, args)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yaml").write_text("{}")
    line = ["--config", "base.yaml", "--set", "model.contrast=null,PNE", "--seeds", "0,1"]
    assert run_main(*line, "--dry-run") == 0
    assert "base/contrast=PNE/seed1 --model.contrast PNE\n4 cells." in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    # Where the cells' runs will lie, as their own commands read it.
    (tmp_path / "elsewhere.yaml").write_text("trainer: {default_root_dir: other}")
    for root in (["--config", "elsewhere.yaml"], ["--trainer.default_root_dir", "other"]):
        assert run_main(*line, *root, "--status") == 2
        assert "there is no study in other/runs/base yet" in capsys.readouterr().err
    commands.failing = {"contrast=PNE/seed1"}
    assert run_main(*line) == 1
    text = capsys.readouterr().out
    assert "contrast=PNE/seed1: failed\n  fit ended with code 2: error: no such data" in text
    assert "3 of 4 cells done" in text
    commands.failing = set()
    assert run_main(*line, "--retry-failed", "--only", "contrast=PNE") == 0
    capsys.readouterr()
    assert run_main(*line, "--status") == 0
    text = capsys.readouterr().out
    assert "│ contrast=PNE  │ 50.00  │ 51.00  │" in text
    assert "4 of 4 cells done." in text
    assert run_main(*line) == 0
    figures = json.loads((tmp_path / "runs" / "base" / "comparison.json").read_text())
    (difference,) = figures["differences"]
    assert difference["paired"]["mean"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("visible", "jobs", "expected"),
    [
        (None, 1, [None]),  # it may use all of them
        (None, 4, ["0", "1", "2", "3"]),
        (None, 2, ["0,2", "1,3"]),
        ("6,7,4,5", 4, ["6", "7", "4", "5"]),
        ("6,7,4,5", 6, ["6", "7", "4", "5", "6", "7"]),
    ],
)
def test_jobs_share_the_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, jobs: int, expected: list[str | None]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    workers = cells.make_workers(jobs, threading.Event())
    assert [worker.environment.get("CUDA_VISIBLE_DEVICES") for worker in workers] == expected


def test_a_command_has_its_workers_environment(tmp_path: Path) -> None:
    worker = Worker(threading.Event(), {"PYTHONVERBOSE": "1"})
    with (tmp_path / "log.txt").open("a") as log:
        cells._command(["--help"], log, log.fileno(), worker)
    text = (tmp_path / "log.txt").read_text()
    assert "pne-seg VERB --help" in text
    assert "import _frozen_importlib" in text  # what Python prints by that variable


def test_mistakes_are_answered_in_a_line(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yaml").write_text("{}")
    base = ["--config", "base.yaml"]
    down, shown = (f"postgresql+nothing://me:{word}@host/x" for word in ("secret", "***"))
    for line, said in (
        ([], "Missing: --config"),
        (["--config", "none.yaml"], "--config none.yaml: No such file"),
        ([*base, "--seeds", "0,x"], "--seeds 0,x: expected different whole numbers"),
        ([*base, "--seeds", "0,0"], "--seeds 0,0: expected different"),
        ([*base, "--jobs", "0"], "--jobs 0: expected 1 or more"),
        ([*base, "--name", "a/b"], "holds a separator"),
        ([*base, "--set", "lr=1", "--only", "lr=2"], "--only lr=2: no such arm. There are lr=1"),
        ([*base, "--status"], "there is no study in runs/base yet"),
        ([*base, "stray"], "stray: expected settings as --KEY VALUE"),
        ([*base, "--storage", down], f"storage {shown}"),
        ([*base, "--storage", down], "Expected a database that can be reached"),
    ):
        assert run_main(*line) == 2
        error = capsys.readouterr().err
        assert said in error, error
        assert "secret" not in error
        assert len(error.splitlines()) <= 3
    assert commands.seen == []
