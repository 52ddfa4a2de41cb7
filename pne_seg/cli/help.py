"""The help of the trainer's verbs: one screen of the settings that people change, or one class.

Names, defaults and descriptions come from the sources; `--help all` is the parser's own help.
"""

import contextlib
import re
import textwrap
from typing import Any

from pne_seg.cli import program
from pne_seg.cli.arguments import DEFAULT_SEED, DESCRIPTIONS, GROUPS, SLOTS
from pne_seg.cli.mistyped import class_of
from pne_seg.cli.settings import Settings
from pne_seg.cli.signatures import (
    Argument,
    dataclass_in,
    definition,
    documented,
    public_classes,
)
from pne_seg.errors import UserError, nearest, unknown_setting

_WIDTH = 100
_COLUMN = 42  # where descriptions begin

_USUAL = {
    "data": "pne_seg.data.file_datamodule.FileDataModule",
    "model.network": "pne_seg.networks.UPerNet",
    "model.loss": "pne_seg.losses.CrossEntropy",
    "model.contrast": "pne_seg.contrast.component.PNE",
    "model.auxiliary": "pne_seg.networks.FCNHead",
    "model.optimizer": "torch.optim.AdamW",
    "model.schedule": "pne_seg.optim.WarmupPoly",
}
"""The class of a slot whose settings the screen shows."""

_CALLED_WITH = {"model.optimizer": "params", "model.schedule": "optimizer"}
"""The argument that the class of a slot is called with, which is no setting."""

_CONFIG = {
    "config": "YAML file with settings; a later one wins",
    "name": "name of the run; by default that of the first config",
}
_DEVICES = {
    "trainer.accelerator": "cpu, gpu, mps; by default the best available",
    "trainer.devices": "how many of them, -1 for all",
    "trainer.precision": "32-true by default; faster on GPUs: bf16-mixed, 16-mixed",
    "trainer.fast_dev_run": "try one batch of everything, and write nothing",
}
_DATA = {
    "data": "ADE20K, CamVid, Cityscapes, COCOStuff, Folder or Scenes",
    "data.root": "its folder, or a zip archive of it",
}
_WORKERS = {"data.num_workers": "loader processes per device; chosen for the machine"}
_INFERENCE = {
    "model.inference.window": "[height, width] of sliding windows; whole images without",
    "model.inference.overlap": "share of a window that the next one covers again",
    "model.inference.scales": "factors on the image's size, averaged",
    "model.inference.flip": "whether to average with the mirrored image",
}
_FIGURES = {"figures.num_images": "validation images in the figures, 0 for none"}
_FIT = {
    "Run": {
        **_CONFIG,
        "ckpt_path": "resume from a checkpoint; `last` is the newest run's",
        "seed_everything": "seed of weights, order and augmentation",
        "trainer.default_root_dir": "where the folder `runs` is made; here by default",
    },
    "Data": {
        **_DATA,
        "data.batch_size": "training images per step and device",
        "data.crop_size": "[height, width] of training crops, in pixels",
        **_WORKERS,
    },
    "Network": {
        "model.network": "any nn.Module; of this package: UPerNet, OCRNet, …",
        "model.network.encoder_name": "encoder: smp's names, or tu-NAME for timm's",
        "model.network.encoder_weights": "pretrained weights of the encoder, null for none",
        "model.init_from": "start from these weights: file, folder or address",
        "model.auxiliary": "auxiliary head in training, null for none",
    },
    "Contrast": {
        "model.contrast": "PNE, InfoNCE, PixelContrast; null trains without",
        "model.contrast.weight": "its weight in the total loss",
        "model.contrast.warmup_steps": "optimizer steps over which the weight rises from 0",
        "model.contrast.temperature": "divides the cosine similarity",
        "model.contrast.num_samples": "pixels sampled from each set",
    },
    "Loss and optimizer": {
        "model.loss": "CrossEntropy, OHEMCrossEntropy, or any nn.Module",
        "model.optimizer": "any of torch.optim; AdamW by default",
        "model.optimizer.lr": "learning rate",
        "model.optimizer.weight_decay": "weight decay",
        "model.parameter_groups.head_lr": "factor on the learning rate outside the encoder",
        "model.schedule": "learning-rate schedule: WarmupPoly, or torch's",
    },
    "Trainer": {
        "trainer.max_epochs": "epochs of training",
        "trainer.max_steps": "optimizer steps of training; -1 for no limit",
        **_DEVICES,
        "trainer.accumulate_grad_batches": "batches per optimizer step",
        "trainer.gradient_clip_val": "largest norm of the gradient",
        "trainer.callbacks": "further callbacks, such as ContrastDiagnostics",
        "ema": "moving average of the weights: EMAWeightAveraging",
    },
    "Checkpoints, figures, evaluation": {
        "logger": "also log to tensorboard, wandb, mlflow or trackio",
        "best_checkpoint.monitor": "the metric by which best.ckpt is chosen",
        **_FIGURES,
        **_INFERENCE,
    },
}
_WEIGHTS = {
    "run": "folder of a run: its config and best weights",
    "ckpt_path": "a checkpoint, in a run's folder, in place of the best",
    **_CONFIG,
    "weights": "weights from elsewhere for the config's network",
}
_IMAGES = {"data.eval_batch_size": "images per step, if they have one size"}
_SCORING = {
    "Weights": _WEIGHTS,
    "Data": {**_DATA, **_IMAGES, **_WORKERS},
    "Evaluation": {
        **_INFERENCE,
        "model.boundary_widths": "a test's distances to class borders, in pixels",
        "suspects.max_rows": "a test's regions with suspect labels, 0 for none",
        **_FIGURES,
    },
    "Trainer": _DEVICES,
}
_PREDICTION = {
    "Weights": _WEIGHTS,
    "Input and output": {
        "input": "image, video, folder or quoted glob; else the test split",
        "output": "folder; RUN/predict/CHECKPOINT by default",
        "write": "any of classes, color, overlay; by default all",
        "format": "what a benchmark's server takes: cityscapes, ade20k",
        "overwrite": "replace what predict wrote with other settings",
    },
    "Data": {**_DATA, **_IMAGES, **_WORKERS},
    "Evaluation": _INFERENCE,
    "Trainer": _DEVICES,
}


def show_help(verb: str, settings: Settings) -> list[str]:
    """Print the requested help; return arguments if the parser has to print it, else none.

    `settings` must be loaded. The parser prints `--help all`, and classes whose arguments cannot be
    read from their source.
    """
    asked = [override for override in settings.overrides if override.key == "help"]
    given = [override for override in settings.overrides if override.key != "help"]
    key = asked[-1].value or (given[-1].key if given else "")
    allow = [f"--allow={name}" for name in settings.imports.allow]
    if key == "all":
        return [*allow, "--help"]
    if not (
        asked[-1].value or key in SLOTS or key in GROUPS or (given and given[-1].value is None)
    ):
        print_text(_screen(verb))
        return []
    text = class_help(verb, key, settings.get(key))
    if text is None and asked[-1].value:
        raise UserError(unknown_setting(f"--{key}", [f"--{one}" for one in (*GROUPS, *SLOTS)]))
    if text is None:
        named = _named(settings.get(key))
        return [*allow, f"--{key}.help={named}" if named else f"--{key}.help"]
    print_text(text)
    return []


def print_text(text: str) -> None:
    """Print a help text."""
    with contextlib.suppress(BrokenPipeError):  # from a pager that was quit
        print(text, flush=True)


def _screen(verb: str) -> str:
    groups = {"fit": _FIT, "predict": _PREDICTION}.get(verb, _SCORING)
    source = "--config FILE" if verb == "fit" else "(--run DIR | --config FILE)"
    lines = [f"usage: {program()} {verb} {source} [--KEY VALUE …]", "", DESCRIPTIONS[verb], ""]
    for title, keys in groups.items():
        lines += [title]
        for key, text in keys.items():
            left = f"  --{key} {screen_default(key)}".ljust(_COLUMN)
            lines.append(f"{left} {text}")
    lines += [
        "",
        f"More: {verb} --trainer --help             all settings of a group: trainer, model, …",
        f"      {verb} --model.contrast PNE --help  all settings of one class",
        f"      {verb} --help all                   everything",
        f"      {verb} --config FILE --print_config the settings as they would be used",
    ]
    return "\n".join(lines)


def screen_default(key: str) -> str:
    """Return what the screen shows as the value of a key: its default, or what it takes."""
    named = {"config": "FILE", "data": "CLASS", "seed_everything": str(DEFAULT_SEED)}
    group, _, name = key.rpartition(".")
    if key in named or not group:
        return named.get(key, "")
    if group in GROUPS:
        found = documented(GROUPS[group])[name]
    elif group in _USUAL:
        found = documented(_USUAL[group])[name]
    else:
        outer, _, slot = group.rpartition(".")
        path = dataclass_in(documented(GROUPS[outer])[slot].kind, GROUPS[outer])
        found = documented(str(path))[name]
    return "CLASS" if key in SLOTS else _default(found) if len(_default(found)) < 16 else ""


def class_help(verb: str, key: str, value: Any) -> str | None:
    """Describe a class and its arguments; None if they cannot be read."""
    named = _named(value)
    path = GROUPS.get(key) or (class_of(key, named) or named if named else None)
    others = ""
    group, _, name = key.rpartition(".")
    if path is None and key in _USUAL and key != "data":
        path = _USUAL[key]
        others = f"Others: {verb} --{key} CLASS --help, with {_choices(key)}, or a full path."
        others = textwrap.fill(others, _WIDTH)
    elif path is None and key in SLOTS:
        return _list(verb, key)
    elif path is None and group in GROUPS:
        argument = documented(GROUPS[group]).get(name)
        path = dataclass_in(argument.kind, GROUPS[group]) if argument else None
    found = definition(path) if path else None
    if found is None and named and key in SLOTS and "." not in named:
        near = nearest(named, public_classes(SLOTS[key]))
        hint = f"The nearest is {near}." if near else f"There are {_choices(key)}."
        raise UserError(f"--{key} {named}: no class of that name.\n  {hint}")
    if path is None or found is None:
        return None
    lines = [path, *textwrap.wrap(found.summary, _WIDTH - 4, initial_indent="  ")]
    for argument_name, argument in documented(path).items():
        if argument_name == _CALLED_WITH.get(key):
            continue
        lines += ["", f"  --{key}.{argument_name} {_default(argument)}".rstrip()]
        lines[-1] += f"   ({argument.kind})" if argument.kind else ""
        lines += textwrap.wrap(
            _plain(argument.text), _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8
        )
    return "\n".join([*lines, *(["", others] if others else [])])


def _list(verb: str, key: str) -> str:
    """List the classes of a slot."""
    classes = {name: text for name, text in public_classes(SLOTS[key]).items() if text}
    lines = [f"--{key} takes one of these classes, or the full path of another:"]
    lines += [
        f"  {name:<20} {textwrap.shorten(text, 76, placeholder=' …')}"
        for name, text in classes.items()
    ]
    return "\n".join([*lines, f"Its settings: {verb} --{key} CLASS --help"])


def _choices(key: str) -> str:
    return ", ".join(public_classes(SLOTS[key]))


def _named(value: Any) -> str | None:
    """Return the class that a slot's value names."""
    named = value.get("class_path") if isinstance(value, dict) else value
    return named if isinstance(named, str) else None


def _default(argument: Argument) -> str:
    text = argument.default
    if text in (None, "None"):
        return ""
    plain = re.sub(r"^Path\((.*)\)$", r"\1", str(text)).strip("'")
    plain = re.sub(r"^\((.*?),?\)$", r"[\1]", plain)
    return {"True": "true", "False": "false"}.get(plain, plain)


def _plain(text: str) -> str:
    return text.replace("``", "").replace("`", "").replace("**", "")
