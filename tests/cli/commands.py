"""Commands run in-process, on scenes and a network small enough for a fraction of a second."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pne_seg.cli import main
from pne_seg.cli.command import SegmentationCLI

REPOSITORY = Path(__file__).parents[2]
SCENES = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
CAMVID = REPOSITORY / "configs" / "camvid_upernet_resnet18.yaml"

QUICK = [
    *["--trainer.accelerator", "cpu", "--data.num_workers", "0"],
    *["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"],
]
DRY = [*QUICK, "--trainer.fast_dev_run", "true"]
"""One batch, nothing written."""
SMALL = [
    *["--data.train_size", "4", "--data.val_size", "2", "--data.test_size", "2"],
    *["--data.height", "32", "--data.width", "32", "--data.batch_size", "2"],
]
"""Makes the shipped scenes small."""

ALLOW = "--allow=tests"
"""Their runs lie in temporary folders, from where a config may not name the tests' own classes."""

TINY = """
data:
  class_path: Scenes
  init_args:
    {train_size: 8, val_size: 3, test_size: 2, height: 32, width: 48, batch_size: 4, num_workers: 0}
model:
  network:
    class_path: tests.tiny_networks.TinyNet
    init_args: {width: 6}
  contrast:
    class_path: PNE
    init_args: {temperature: 0.7, weight: 1.1, embedding_dim: 8, max_anchors: 500}
  optimizer:
    class_path: torch.optim.AdamW
    init_args: {lr: 0.01, weight_decay: 0.02}
  schedule:
    class_path: pne_seg.optim.WarmupPoly
    init_args: {total_steps: 8}
figures: {num_images: 0}
trainer:
  max_epochs: 1
  log_every_n_steps: 1
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
"""


def write_config(path: Path, content: str | dict[str, Any]) -> Path:
    """Write a config file; returns its path."""
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def command(verb: str, *args: object) -> SegmentationCLI:
    """Run a command that must succeed."""
    done = main([verb, *map(str, args), ALLOW])
    assert done is not None
    return done.command


def refused(capsys: pytest.CaptureFixture[str], verb: str, *args: object) -> str:
    """Run a command that must end with exit code 2 and a few lines; returns these."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([verb, *map(str, args), *([ALLOW] if verb != "models" else [])])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = said[said.index("error: ") :].strip().splitlines()
    assert len(lines) <= 6, said
    return "\n".join(lines)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
