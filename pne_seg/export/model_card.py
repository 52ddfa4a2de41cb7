"""What an export says about itself: `segmentation.json`, the same in each file, and the card."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from pne_seg import networks
from pne_seg.description import pixel_sizes
from pne_seg.export.tracing import INPUT, OUTPUT, SMALLEST, Traced, round_up
from pne_seg.exported import FORMATS, ONNX, PREVIEW, WEIGHTS
from pne_seg.inference import Inference
from pne_seg.metrics import percent
from pne_seg.trained import Trained

_PACKAGES = ("pne-seg", "torch", "segmentation-models-pytorch", "timm", "onnx", "onnxscript")
_TEMPLATE = Path(__file__).with_name("model_card.md")
_SIGNATURE = "\n<!-- Written by pne_seg and not edited since: sha256 "
_TERMS = {
    "ADE20K": (
        "ADE20K, scene parsing benchmark of 2016 (Zhou et al., CVPR 2017). "
        "For non-commercial research."
    ),
    "CamVid": (
        "CamVid, 11 classes (Brostow, Fauqueur and Cipolla, 2009). "
        "For research and personal use only, CC BY-NC 4.0."
    ),
    "Cityscapes": (
        "Cityscapes, fine annotations (Cordts et al., CVPR 2016). "
        "Non-commercial terms of its own, on its home page."
    ),
    "COCOStuff": (
        "COCO-Stuff (Caesar et al., CVPR 2018). Annotations CC BY 4.0, images under Flickr's terms."
    ),
    "Scenes": "Procedural street scenes, drawn by pne_seg's own code (MIT).",
}
"""Training data and their terms, by the class of the data set."""


def loading_library(network: nn.Module) -> str | None:
    """Return the library whose `from_pretrained` loads the network; None if there is none."""
    kind = type(network)
    if getattr(smp, kind.__name__, None) is kind:
        return "segmentation_models_pytorch"
    return "pne_seg.networks" if getattr(networks, kind.__name__, None) is kind else None


def describe(trained: Trained, formats: Mapping[str, Traced]) -> dict[str, Any]:
    """Return the content of `segmentation.json`."""
    versions = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # onnx is optional
            versions[name] = version(name)
    network = trained.network
    return {
        "data": trained.data.as_dict(),
        **trained.preprocessing.normalization,
        "stride": trained.preprocessing.stride,
        "files": {FORMATS[key]: _note(written) for key, written in formats.items()},
        "inference": asdict(trained.inference),
        "network": {
            "class": f"{type(network).__module__}.{type(network).__qualname__}",
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "from_pretrained": loading_library(network),
            "settings": trained.slot,
        },
        "run": trained.run_name,
        "checkpoint": trained.path.name,
        "metrics": trained.metrics,
        "versions": versions,
    }


def as_json(content: Mapping[str, Any]) -> str:
    """Indent, except lists of numbers, which take a line each."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    numbers = re.compile(r"\[\s+([-\d.eE+]+(?:,\s+[-\d.eE+]+)*)\s+\]")
    return numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def header(trained: Trained, written: Traced) -> dict[str, str]:
    """Return the essentials as strings (lists as JSON), which each file carries inside."""
    stride = trained.preprocessing.stride
    values = trained.data.as_dict() | trained.preprocessing.normalization | {"stride": stride}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
    return texts | _conventions(written)


def _note(written: Traced) -> dict[str, Any]:
    notes = {
        "batch": "any",
        "size": [*written.size] if written.size else "any",
        "multiple_of": None if written.size else written.multiple,
        "fixed_because": written.reason,
        **_conventions(written),
        "opset": written.opset,
    }
    return {key: value for key, value in notes.items() if value is not None}


def _conventions(written: Traced) -> dict[str, str]:
    multiple = written.multiple
    sides = f"both sides divisible by {multiple}" if multiple > 1 else "any sides"
    if written.program is None:
        return {
            "input": f"float32 (batch, 3, height, width), RGB, {sides}, normalized: (pixels in "
            "0-255 - mean) / std",
            "output": "logits (batch, classes, h, w), before the softmax; enlarge them to the "
            "image's size bilinearly (align_corners=False) if they are smaller",
        }
    if written.size is not None:
        sides = "height {} and width {} only".format(*written.size)
    else:
        sides += f", {round_up(SMALLEST, multiple)} pixels or more"
    return {
        "input": f"{INPUT}: float32 (batch, 3, height, width), RGB in 0-255, {sides}; normalized "
        "inside, not by the caller",
        "output": f"{OUTPUT}: logits (batch, classes, height, width), before the softmax, at the "
        "image's size",
    }


def is_edited(card: Path) -> bool:
    """Return whether a file is there that is not a card just as an export wrote it."""
    if not card.exists():
        return False
    text, signature, rest = card.read_bytes().decode(errors="replace").rpartition(_SIGNATURE)
    return not signature or rest != f"{_digest(text)} -->\n"


def write_card(trained: Trained, content: Mapping[str, Any], path: Path, preview: bool) -> None:
    """Write the card of a `segmentation.json`, with front matter for the Hugging Face hub."""
    from huggingface_hub import ModelCard, ModelCardData

    files = content["files"]
    is_smp = content["network"]["from_pretrained"] == "segmentation_models_pytorch"
    settings = trained.slot.get("init_args") or {}
    known = trained.data.data
    card = ModelCard.from_template(
        ModelCardData(
            library_name="segmentation-models-pytorch" if is_smp else "pne_seg",
            pipeline_tag="image-segmentation",
            tags=["semantic-segmentation", "pytorch", *["onnx"] * (ONNX in files), "pne_seg"],
        ),
        template_path=str(_TEMPLATE),
        **content,
        name=trained.run_name or trained.source.removeprefix("hf://") or trained.path.stem,
        network_class=type(trained.network).__name__,
        encoder=settings.get("encoder_name") or settings.get("name"),
        source=trained.source,
        training_terms=list(trained.training_bytes),
        preview=PREVIEW if preview else "",
        smallest_side=lambda multiple: round_up(SMALLEST, multiple),
        size=_example_size(files),
        weights_size=_example_size({WEIGHTS: files[WEIGHTS]}) if WEIGHTS in files else None,
        training_data=_TERMS.get(
            known,
            f"Read by `{known}`. Name the images and their terms here before you pass this network "
            "on.",
        ),
        splits=_splits(trained),
        settings=json.dumps(content["network"]["settings"], indent=2, ensure_ascii=False),
    )
    # The template's tags leave empty lines behind.
    text = re.sub(r"\n{3,}", "\n\n", str(card)).strip() + "\n"
    path.write_bytes(f"{text}{_SIGNATURE}{_digest(text)} -->\n".encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example_size(files: Mapping[str, Any]) -> tuple[int, int]:
    """Return a height and width that each of the files takes."""
    for notes in files.values():
        if notes["size"] != "any":
            return tuple(notes["size"])
    multiple = max(notes["multiple_of"] for notes in files.values())
    return round_up(256, multiple), round_up(384, multiple)


def _splits(trained: Trained) -> list[dict[str, Any]]:
    """Return the splits that were evaluated, with their metrics; the same images once."""
    metrics = trained.metrics
    names = {"val": "the validation split", "test": "the test split"}
    if any((of.get("protocol") or {}).get("same_images_as_val") for of in metrics.values()):
        same = "the validation split (this data set's test split is the same images)"
        names = {"test" if "test" in metrics else "val": same}
    keys = {"mIoU": "mIoU", "mean accuracy": "mAcc", "pixel accuracy": "pixel_accuracy"}
    keys |= {f"IoU {name}": f"IoU/{name}" for name in trained.data.class_names}
    return [
        {
            "images": images,
            "rows": [
                (name, percent(metrics[split].get(f"{split}/{key}"))) for name, key in keys.items()
            ],
            "protocol": _protocol(metrics[split].get("protocol") or {}),
        }
        for split, images in names.items()
        if split in metrics
    ]


def _protocol(known: Mapping[str, Any]) -> str:
    """Say how the metrics were measured, as far as their file does."""
    parts = []
    if known.get("images"):
        parts.append(f"{known['images']} images of {known.get('data')}")
    seen, labels, files = (
        _sizes(known.get(key)) for key in ("image_sizes", "scored_at", "files_at")
    )
    with suppress(KeyError, TypeError, ValueError):  # another version's
        parts.append(f"{Inference(**known['inference'])}{f' of {seen}' if seen else ''}")
    if known.get("files_at"):
        of = f" of {files}" if files else ""
        at = f"{labels or 'another size'}, to which the labels{of} were scaled"
    else:
        at = f"the labels' own size{f', {labels}' if labels else ''}"
    return f"{', '.join(parts)}{'; ' if parts else ''}evaluated at {at}"


def _sizes(sizes: Any) -> str:
    """Return the smallest and the largest; nothing if a file says it in another form."""
    with suppress(TypeError, ValueError):
        return pixel_sizes(sizes) if sizes else ""
    return ""
