"""Write docs/settings.md: every setting with its type, default and meaning, from the signatures.

python -m tools.settings_page
"""

import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pne_seg.cli import check_data, export, sweep
from pne_seg.cli.command import SegmentationCLI
from pne_seg.cli.parser import settings_parser

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
CLASSES = {
    ("Data", "`--data CLASS`, `--data.SETTING`"): [
        f"pne_seg.data.{name}"
        for name in ("Folder", "Cityscapes", "ADE20K", "COCOStuff", "CamVid", "Scenes")
    ],
    ("Model", "`--model.SETTING`"): ["pne_seg.module.SegmentationModule"],
    ("Contrast", "`--model.contrast CLASS`, `--model.contrast.SETTING`"): [
        f"pne_seg.contrast.component.{name}"
        for name in ("PNE", "InfoNCE", "PixelContrast", "Contrast")
    ],
    ("Networks", "`--model.network CLASS`, `--model.network.SETTING`"): [
        f"pne_seg.networks.{name}"
        for name in ("DeepLabV3", "HRNetV2", "OCRNet", "UPerNet", "DPT", "TorchvisionNetwork")
    ],
    ("Auxiliary heads", "`--model.auxiliary CLASS`"): [
        f"pne_seg.networks.{name}" for name in ("FCNHead", "AuxiliaryLogits")
    ],
    ("Losses", "`--model.loss CLASS`"): [
        f"pne_seg.losses.{name}" for name in ("CrossEntropy", "OHEMCrossEntropy")
    ],
    ("Inference", "`--model.inference.SETTING`"): ["pne_seg.inference.Inference"],
    ("Optimizer", "`--model.parameter_groups.SETTING`, `--model.schedule CLASS`"): [
        f"pne_seg.optim.{name}" for name in ("ParameterGroups", "WarmupPoly")
    ],
    ("Figures and checkpoints", ""): [
        f"pne_seg.callbacks.{name}"
        for name in ("Figures", "BestCheckpoint", "LastCheckpoint", "ContrastDiagnostics")
    ],
    ("Suspect labels", "`--suspects.SETTING` of `test` and `check-data --run`"): [
        "pne_seg.suspects.SuspectSearch"
    ],
    ("Transforms", "In the list `data.transforms`:"): [
        f"pne_seg.data.transforms.{name}"
        for name in ("RandomScaleCrop", "PadTo", "PhotometricDistortion")
    ],
}
VERBS = {
    "fit": "`fit`, and the three below",
    "test": "`validate` and `test`, and `predict`",
    "predict": "`predict`",
}
HELP = {
    "seed_everything": "of all random numbers: weights, order, augmentation, dropout.",
    "data": "the data set: its class, and its settings as above.",
}
"""In place of texts that come from libraries."""
GROUP = "Path to a configuration file."
BEGINNING = """\
# Every setting

Generated from the signatures by `python -m tools.settings_page`. A setting is given on the command line, `--model.contrast.temperature 0.5`, or in a YAML file, where settings of a class are under `init_args`:

```yaml
model:
  contrast:
    class_path: PNE
    init_args: {temperature: 0.5}
```

`--trainer.SETTING` are those of [Lightning's Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html), such as `max_epochs`, `max_steps`, `devices`, `precision`, `accumulate_grad_batches`, `gradient_clip_val`, `check_val_every_n_epoch`. `--model.optimizer` takes any of [PyTorch's optimizers](https://pytorch.org/docs/stable/optim.html) with its settings, `--ema.decay` averages the weights. smp's networks have [smp's settings](https://smp.readthedocs.io), such as `encoder_name`, `encoder_weights` and `decoder_channels`.

"""  # noqa: E501  # Markdown
_SHORT = 110


class _FoundParser(Exception):  # noqa: N818  # it carries the parser out of LightningCLI
    pass


class _Describing(SegmentationCLI):
    def parse_arguments(self, parser: Any, args: Any) -> None:  # noqa: ARG002
        raise _FoundParser(parser)


def page() -> str:
    """Return the page's content."""
    parts = [BEGINNING]
    for (title, flags), paths in CLASSES.items():
        parts.append(f"## {title}\n\n" + (f"{flags}\n\n" if flags else ""))
        for path in paths:
            module, _, name = path.rpartition(".")
            parts += _class(getattr(import_module(module), name), name)
    parts.append("## Commands\n\nWhat the commands take beside the settings above.\n\n")
    known: set[str] = set()
    for verb, also in VERBS.items():
        own = [one for one in parser_of_verb(verb)._actions if one.dest not in known]
        parts += [f"### {also}\n\n", *_table([one for one in own if "." not in one.dest])]
        known |= {one.dest for one in own}
    for command in (export, sweep, check_data):
        verb = command.__name__.rpartition(".")[2].replace("_", "-")
        own = [one for one in command.build_parser()._actions if "." not in one.dest]
        parts += [f"### `{verb}`\n\n", *_table(own)]
    return "".join(parts).rstrip() + "\n"


def parser_of_verb(verb: str) -> Any:
    """Return the parser of a trainer verb, which LightningCLI builds."""
    try:
        _Describing(verb, [] if verb == "fit" else ["--help"])
    except _FoundParser as found:
        return found.args[0]
    raise AssertionError(f"{verb} built no parser")


def _class(found: type, name: str) -> Iterable[str]:
    summary = re.split(r"\n\s*\n", (found.__doc__ or "").strip())[0]
    yield f"### {name}\n\n{' '.join(summary.split())}\n\n"
    yield from _table(settings_parser(found)._actions)


def _table(actions: Iterable[Action]) -> Iterable[str]:
    skipped = ("help", "print_config", "config", "cfg")
    shown = [
        action
        for action in actions
        if action.dest.rpartition(".")[2] not in skipped and action.help not in (SUPPRESS, GROUP)
    ]
    if not shown:
        yield "No settings.\n\n"
        return
    yield "| setting | type | default | |\n| --- | --- | --- | --- |\n"
    for action in shown:
        default = "" if action.default is SUPPRESS else _value(action.default)
        default = "required" if action.required else default
        kind = _kind(getattr(action, "_typehint", None) or action.type)
        text = HELP.get(action.dest, action.help or "")
        text = " ".join(text.split()).replace("|", "\\|")
        flag = max(action.option_strings, key=len, default=action.dest).strip("-+")
        yield f"| `{flag}` | {kind} | {default} | {text} |\n"
    yield "\n"


def _kind(kind: Any) -> str:
    text = "" if kind is None else _name(kind)
    if len(text) > _SHORT:
        text = text[:_SHORT].rpartition(",")[0] + ", …"
    return f"`{text}`" if text else ""


def _name(kind: Any) -> str:
    """Return a type as it is written, without modules, the same on every Python."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is type(None):
        return "null"
    if kind is Ellipsis:
        return "…"
    if isinstance(kind, list):  # the arguments of a callable
        return f"[{', '.join(map(_name, kind))}]"
    if origin in (Union, UnionType):
        return " or ".join(map(_name, inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    name = str(getattr(origin or kind, "__name__", kind))
    return f"{name}[{', '.join(map(_name, inner))}]" if inner else name


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Path):
        return f"`{value.as_posix()}`"
    if isinstance(value, str | int | float | list | tuple | dict):
        text = str(value) if not isinstance(value, bool) else str(value).lower()
        return f"`{text or '(empty)'}`"
    named = getattr(value, "class_path", None) or type(value).__name__
    return f"`{named.rpartition('.')[2]}`"


def main() -> None:
    """Write the page."""
    sys.stdout.write(f"{PAGE}\n")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
