"""Config files with absurd values in any place, for commands that must refuse them in few lines."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

Config = dict[str, Any]
Place = tuple[str | int, ...]

VALUES = [
    *[None, True, False, 0, 1, -1, 2, 3, 7, 255, 256, 2**31, 2**63, 10**9, 10**20, -(10**20)],
    *[0.0, 0.5, -0.5, 1.5, 1e-30, 1e30, 1e308, float("nan"), float("inf"), float("-inf")],
    *["", " ", "x", "null", "3", "nan", "../..", "/", "a/b", "\0", "é", "x" * 300],
    *["torch.nn.Conv2d", "torch.optim.SGD", "Scenes", "PNE", "os.system", "best", "val/loss"],
    *[[], [[]], [0], [1], [-1], [1, 2], [1, 2, 3], [1e30], [10**20] * 2, ["x"], [None], [0.5] * 2],
    *[{}, {"x": 1}, {"class_path": "x"}, {"class_path": 3}, {"class_path": None}, {"init_args": 3}],
    *[{"class_path": "torch.nn.Identity"}, {"class_path": "Scenes", "init_args": None}, {1: 2}],
]  # fmt: skip


EVERYTHING = """
data:
  class_path: Scenes
  init_args:
    {train_size: 8, val_size: 3, test_size: 2, height: 32, width: 48, scene_seed: 0,
     batch_size: 4, eval_batch_size: 2, num_workers: 0, seed: 1}
model:
  network:
    class_path: tests.tiny_networks.TinyNet
    init_args: {width: 6, stride: 2, dropout: 0.0}
  loss:
    class_path: CrossEntropy
    init_args: {average: all, class_weights: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}
  extra_losses:
    dice:
      class_path: segmentation_models_pytorch.losses.DiceLoss
      init_args: {mode: multiclass, smooth: 0.1}
  extra_loss_weights: {dice: 0.5}
  auxiliary:
    class_path: FCNHead
    init_args: {channels: 8, dropout: 0.1, feature_module: encoder, stage: -1, weight: 0.4}
  contrast:
    class_path: PNE
    init_args:
      {temperature: 0.7, num_samples: 10, min_anchors: 0, max_anchors: 500, sampling: random,
       weight: 1.1, embedding_dim: 8, warmup_steps: 2, min_stride: 4}
  optimizer:
    class_path: torch.optim.AdamW
    init_args: {lr: 0.01, weight_decay: 0.02, betas: [0.9, 0.99], eps: 1.0e-8}
  parameter_groups: {decay_norms: false, head_lr: 2.0, layer_decay: 1.0, lr_scales: {encoder: 0.5}}
  schedule:
    class_path: pne_seg.optim.WarmupPoly
    init_args: {total_steps: 8, power: 0.9, min_lr: 0.0, warmup_steps: 2, warmup_start: 0.1}
  dropout: 0.1
  mean: [1, 2, 3]
  std: [1, 2, 3]
  boundary_widths: [1, 3]
  inference:
    {window: [16, 16], stride: [8, 8], blend: gaussian, windows_per_pass: 2, scales: [1.0, 0.5],
     flip: true}
trainer:
  max_epochs: 1
  max_steps: 3
  log_every_n_steps: 1
  accelerator: cpu
  devices: 1
  precision: 32-true
  gradient_clip_val: 1.0
  accumulate_grad_batches: 1
  limit_train_batches: 1.0
  limit_val_batches: 1.0
  val_check_interval: 1.0
  check_val_every_n_epoch: 1
  num_sanity_val_steps: 1
  sync_batchnorm: false
  default_root_dir: null
  enable_progress_bar: false
  enable_model_summary: false
ema:
  class_path: lightning.pytorch.callbacks.EMAWeightAveraging
  init_args: {decay: 0.9}
figures: {num_images: 2}
best_checkpoint: {monitor: val/mIoU, mode: max}
last_checkpoint: {every_n_epochs: 1}
seed_everything: 3
name: x
"""

WAITING = ("devices", "num_nodes")
"""Settings with which a command waits for processes that do not come."""


def places(config: Any, start: Place = ()) -> Iterator[Place]:
    """Every place in a config, the whole not counted."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        yield (*start, key)
        if isinstance(value, dict | list):
            yield from places(value, (*start, key))


def changed(config: Config, draw: Random) -> tuple[Config, str]:
    """A config with one or two values replaced or removed, and what was done."""
    result, said = copy.deepcopy(config), []
    for _ in range(draw.choice([1, 1, 1, 2])):
        place = draw.choice([place for place in places(result) if place[-1] not in WAITING])
        node: Any = result
        for key in place[:-1]:
            node = node[key]
        if draw.random() < 0.1:
            del node[place[-1]]
            said.append(f"{place} removed")
        else:
            node[place[-1]] = copy.deepcopy(draw.choice(VALUES))
            said.append(f"{place} = {str(node[place[-1]])[:60]!r}")
    return result, "; ".join(said)
