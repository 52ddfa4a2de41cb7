"""What a person sees in a terminal, and what is left of it in a log file."""

import json
import re
from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from pne_seg.callbacks.progress import Parameters
from pne_seg.cli import main
from pne_seg.cli.messages import lightning_messages
from tests.cli.commands import ALLOW, SCENES, SMALL, command, write_config
from tests.cli.terminals import Terminal, pseudo_terminal

CONFIG = """
data:
  class_path: Scenes
  init_args:
    {train_size: 8, val_size: 3, test_size: 2, height: 32, width: 48, batch_size: 4, num_workers: 0}
model:
  network: {class_path: tests.tiny_networks.TinyNet, init_args: {width: 6}}
  contrast: {class_path: PNE, init_args: {embedding_dim: 8, max_anchors: 500}}
trainer: {max_epochs: 2, log_every_n_steps: 1, accelerator: cpu}
"""
NOISE = re.compile(r"Tip:|lit(logger|models)|TPU|FLOP|v_num|eval mode|train_dataloader|Warning")


def test_the_emulator_draws_as_a_terminal_does() -> None:
    terminal = Terminal(5)
    terminal.written = b"abcdefg\r\nold\r\x1b[2K\x1b[1Axy\r\n\x1b[1mnew\x1b[0m\r\nend"
    assert terminal.screen == ["abcde", "xy", "new", "end"]


@pytest.mark.parametrize("columns", [80, 100, 110])
def test_summary_of_a_training_stays_whole(tmp_path: Path, columns: int) -> None:
    config = write_config(tmp_path / "tiny.yaml", CONFIG)
    with pseudo_terminal(columns) as terminal:
        run = command("fit", "--config", config, "--trainer.default_root_dir", tmp_path)
    said = "\n".join(terminal.screen)
    assert run.run_folder is not None
    metrics = json.loads((run.run_folder / "metrics.json").read_text())
    table = said[said.index("val metrics in percent") :]
    for name in run.datamodule.class_names:
        assert table.count(f"│ {name} ") == 1
    assert table.count("┏") == table.count("┘") == 1
    assert f"pixel accuracy {100 * metrics['val/pixel_accuracy']:.2f};" in table
    # The bar is above it, and shows the mIoU of the last epoch in the unit of the table.
    last = f"{100 * float(run.trainer.callback_metrics['val/mIoU']):.2f}%"
    bar = " ".join(said[: said.index("val metrics")].split())  # it wraps in a narrow terminal
    assert f"val/mIoU: {last}" in bar
    assert not NOISE.search(terminal.written.decode())
    assert b"Drawing figures" in terminal.written
    assert "Drawing" not in said  # while it lasts
    assert "Device: CPU" in said
    assert re.search(r"Parameters: \d+ in network \(TinyNet\), .* in contrast \(PNE\)", said)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_nothing_is_drawn_over_an_evaluation(run: Path, verb: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    extra = ["--output", written] if verb == "predict" else []
    with pseudo_terminal(100) as terminal:
        command(verb, "--run", run, "--trainer.enable_progress_bar", "true", *extra)
    said = "\n".join(terminal.screen)
    assert not NOISE.search(terminal.written.decode())
    assert said.index("━ 1/1") < said.index("Written to")
    if verb == "predict":
        assert "2 images: 2 written" in said
    else:
        assert said.index("━ 1/1") < said.index("metrics in percent") < said.index("└")
        assert "pixel accuracy" in said
        assert "means    over the classes" in said


def test_a_log_file_has_a_line_for_each_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "tiny.yaml", CONFIG)
    run = command("fit", "--config", config, "--trainer.default_root_dir", tmp_path)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "━ 2/2" not in said.out
    assert "Drawing" not in said.err
    miou = 100 * float(run.trainer.callback_metrics["val/mIoU"])
    assert re.search(rf"^epoch 1, step 4: train/loss [\d.]+, val/mIoU {miou:.2f}%$", said.err, re.M)
    assert said.err.count("epoch 0, step 2:") == 1


def test_checking_and_exporting_say_what_they_do(run: Path, tmp_path: Path) -> None:
    with pseudo_terminal(100) as terminal:
        main(["export", "--run", str(run), "--formats", "[safetensors]", ALLOW])
        main(["check-data", "--config", str(SCENES), *SMALL, "--output", str(tmp_path / "check")])
    assert b"Comparing with the network" in terminal.written
    assert b"Drawing label_histogram.png" in terminal.written
    said = "\n".join(terminal.screen)
    assert "Comparing" not in said
    assert "Drawing" not in said
    assert "OK" in said


def test_parameters_are_counted_with_those_that_are_frozen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = LightningModule()
    module.network = nn.Conv2d(3, 2000, 1)  # 8,000 parameters
    module.loss = nn.CrossEntropyLoss()  # none
    module.contrast = nn.Linear(4, 1, bias=False).requires_grad_(False)
    with lightning_messages():
        Parameters().on_fit_start(Trainer(logger=False, accelerator="cpu"), module)
    expected = "Parameters: 8.0 K in network (Conv2d), 4 in contrast (Linear); 4 of them frozen\n"
    assert expected in capsys.readouterr().err


def test_a_bar_of_the_user_does_not_erase_the_summary(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", CONFIG)
    given = ["--trainer.callbacks+=RichProgressBar", "--figures.num_images", 0]
    with pseudo_terminal(100) as terminal:
        command("fit", "--config", config, "--trainer.default_root_dir", tmp_path, *given)
    said = "\n".join(terminal.screen)
    assert "v_num" in said  # it is Lightning's own
    assert said.index("v_num") < said.index("val metrics") < said.index("└")
    assert said.index("└") < said.index("pixel accuracy") < said.index("Written to")
