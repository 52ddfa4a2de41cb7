"""Two processes on the CPU (gloo), as torchrun starts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pne_seg.data.samples import EpochSampler
from pne_seg.losses import balanced_class_weights
from tests.cli.commands import (
    ALLOW,
    QUICK,
    REPOSITORY,
    SCENES,
    SMALL,
    TINY,
    command,
    contents,
    write_config,
)
from tests.data.noise import SIZES, Fitted, Noise
from tests.distributed import data_worker
from tests.distributed.worker import HARD, STEPS, batch, build
from tests.methods import NETWORKS
from tests.training import trainer

pytestmark = pytest.mark.slow


def torchrun(*args: object) -> None:
    """Run a program in two processes; its output is shown where it fails."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, *map(str, args)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    torchrun("-m", "tests.distributed.worker", folder)
    return folder


def by_hand(method: str) -> dict[str, Tensor]:
    """The same steps in one process: each rank's gradient by itself, their mean, plain SGD.

    Each rank normalizes by its own images. Running statistics, in which ranks differ, are not
    compared.
    """
    module = build(method)
    module.log = lambda *_args, **_kwargs: None  # type: ignore[method-assign]  # has no trainer
    parameters = dict(module.named_parameters())
    for step in range(STEPS):
        module._trainer = SimpleNamespace(global_step=step)  # type: ignore[assignment]
        mean = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for rank in range(2):
            module.train()
            module.zero_grad()
            module.training_step(batch(rank, step, method), step).backward()
            for name, value in parameters.items():
                assert value.grad is not None, name
                mean[name] += value.grad / 2
        with torch.no_grad():
            for name, value in parameters.items():
                value.sub_(0.01 * mean[name])
    return {name: value.detach() for name, value in parameters.items()}


@pytest.mark.parametrize("method", NETWORKS)
def test_each_method_takes_the_mean_of_both_processes_gradients(method: str, trained: Path) -> None:
    first, second = (torch.load(trained / f"{method}-{rank}.pt") for rank in range(2))
    expected, before = by_hand(method), dict(build(method).named_parameters())
    assert first.keys() == second.keys() == expected.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        # HRNet makes 2e-5 of a relative change of 1e-7 in two steps: small against the steps.
        atol = 2e-6 + 5e-3 * float((expected[name] - before[name]).abs().max())
        torch.testing.assert_close(value, expected[name], rtol=0, atol=atol, msg=name)
    moved = {name for name, value in first.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("contrast.") for name in moved)
    assert any(name.startswith("network.encoder.") for name in moved)


@pytest.mark.parametrize("method", HARD)
def test_processes_without_labels_or_pairs_keep_step(method: str, trained: Path) -> None:
    """The contrast's weight starts at 0, one process has no pairs or no labels, or none has."""
    first, second = (torch.load(trained / f"{method}-{rank}.pt") for rank in range(2))
    expected, before = by_hand(method), dict(build(method).named_parameters())
    assert first.keys() == second.keys() == expected.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.isfinite().all(), name
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-6, msg=name)
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], before[name])}
    expected_to_move = {
        "none_with_labels": set(),
        "none_with_pairs": {"network", "auxiliary"},
        "used_without_pairs": {"network", "auxiliary"},
    }
    assert moved == expected_to_move.get(method, {"network", "auxiliary", "contrast"})


def test_a_command_of_two_processes_makes_one_run(tmp_path: Path) -> None:
    place = ["--trainer.default_root_dir", str(tmp_path)]
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "1"]
    uneven = ["--data.val_size", "3"]  # one process scores two images, the other one
    looked = ["--trainer.callbacks", "ContrastDiagnostics", "--trainer.log_every_n_steps", "1"]
    torchrun("cli.py", "fit", "--config", SCENES, *QUICK, *SMALL, *uneven, *ddp, *looked, *place)
    (run,) = (tmp_path / "runs" / "scenes_upernet_resnet18").iterdir()
    assert (run / "figures" / "embeddings.png").is_file()
    assert "Embeddings, at first and at last" in (run / "report.html").read_text()
    assert "train/gradient_contrast" in (run / "metrics.csv").read_text()
    best = run / "checkpoints" / "best.ckpt"
    together = json.loads((run / "metrics.json").read_text())
    one = ["--trainer.devices", "1", "--trainer.strategy", "auto"]  # two would start pytest again
    alone = command("validate", "--ckpt_path", best, *QUICK, *one, "--figures.num_images", "0")
    assert alone.model.metrics is not None
    assert (
        together["val/mIoU"]
        == alone.model.metrics.as_dict("val", alone.model.class_names)["val/mIoU"]
    )


def test_two_processes_test_as_one_does(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", TINY)
    place = ["--trainer.default_root_dir", tmp_path]
    run = command("fit", "--config", config, *place).run_folder
    assert run is not None
    # Five scenes: one process scores three, in batches of two and one, the other two.
    # By the checkpoint: torchrun (on Python 3.11) takes `--run` for an option of its own.
    best = run / "checkpoints" / "best.ckpt"
    args = [
        "test",
        "--ckpt_path",
        best,
        "--data.test_size",
        "5",
        "--data.eval_batch_size",
        "2",
        "--figures.num_images",
        "8",
        "--suspects.min_confidence",
        "0",
        *QUICK,
    ]
    written = command(*map(str, args)).run_folder
    assert written is not None
    alone = contents(written)
    shutil.rmtree(written)
    torchrun("cli.py", *args, ALLOW, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    together = contents(written)
    assert together.keys() == alone.keys()
    # Each image once, in one order; counts and so the scores are the same to the last digit.
    assert together["images.csv"] == alone["images.csv"]
    assert len(together["images.csv"].splitlines()) == 6
    assert together["suspects.csv"] == alone["suspects.csv"]
    assert len({row.split(b",")[2] for row in together["suspects.csv"].splitlines()}) > 3
    assert json.loads(together["metrics.json"]) == json.loads(alone["metrics.json"])
    assert json.loads(together["metrics.json"])["protocol"]["images"] == 5
    for picture in ("worst", "best", "suspects", "class_iou", "confusion_matrix"):
        assert together[f"figures/{picture}.png"] == alone[f"figures/{picture}.png"]


# ---- data --------------------------------------------------------------------------------


@pytest.fixture
def seen(trained: Path) -> list[dict[str, Any]]:
    """What each process saw and scored."""
    return [
        json.loads((trained / f"data-{rank}.json").read_text())
        | torch.load(trained / f"data-{rank}.pt")
        for rank in range(2)
    ]


def check_samples(data: Fitted, seen: list[dict[str, Any]]) -> None:
    """Compare the samples of one process with those of several, which they are dealt to in turn."""
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    for epoch in range(data_worker.EPOCHS):
        loader.sampler.set_epoch(epoch)
        expected = [list(pair) for batch in loader for pair in data_worker.digests(batch)]
        parts = [process["samples"][epoch] for process in seen]
        assert [pair for turn in zip(*parts, strict=True) for pair in turn] == expected
        assert len(expected) == len(SIZES)


def test_two_processes_train_on_the_samples_of_one(seen: list[dict[str, Any]]) -> None:
    check_samples(Fitted(batch_size=2), seen)


def test_two_processes_draw_and_weigh_by_the_counts_of_the_first(trained: Path) -> None:
    seen = [json.loads((trained / f"rare-{rank}.json").read_text()) for rank in range(2)]
    assert [process["read"] for process in seen] == [[*range(len(SIZES))], []]
    data = Fitted(batch_size=2, rare_class_sampling=0.01)
    weights = balanced_class_weights(data.class_counts().pixels).tolist()
    assert [process["weights"] for process in seen] == [weights, weights]
    check_samples(data, seen)


def test_two_processes_score_as_one_does(seen: list[dict[str, Any]]) -> None:
    # By hand: even images on the first process, odd ones on the second, fitted to 64×32.
    assert [process["batches"] for process in seen] == [
        [[2, 3, 32, 43], [2, 3, 32, 43]],
        [[2, 3, 32, 53], [1, 3, 43, 32], [1, 3, 9, 64]],
    ]
    alone = data_worker.build()
    alone.load_state_dict(seen[0]["weights"])
    # The loss is a mean over batches: those of one process must be the same ones.
    scored = trainer().validate(alone, datamodule=Fitted(eval_batch_size=2), verbose=False)
    assert alone.metrics is not None
    for process in seen:
        assert torch.equal(process["matrix"], alone.metrics.matrix)
        assert process["loss"].item() == pytest.approx(scored[0]["val/loss"], rel=1e-5)
    labels = [Noise(len(SIZES), SIZES).read(index).labels for index in range(len(SIZES))]
    assert int(alone.metrics.matrix.sum()) == sum(int((own != 255).sum()) for own in labels)
