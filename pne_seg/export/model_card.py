"""The model card: `model_card.md`, filled in and signed, so that an edited card is known."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pne_seg.description import pixel_sizes
from pne_seg.export.tracing import smallest_side
from pne_seg.exported import ONNX, PREVIEW, WEIGHTS
from pne_seg.inference import Inference
from pne_seg.metrics import percent
from pne_seg.trained import Trained

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


def is_edited(card: Path) -> bool:
    """Return whether a file is there that is not a card just as an export wrote it."""
    if not card.exists():
        return False
    text, signature, rest = card.read_bytes().decode(errors="replace").rpartition(_SIGNATURE)
    return not signature or rest != f"{_digest(text)} -->\n"


def write_card(trained: Trained, content: Mapping[str, Any], path: Path, preview: bool) -> None:
    """Write `README.md`, with front matter for the Hugging Face hub.

    Args:
        trained: what is exported.
        content: of `segmentation.json`.
        path: the file.
        preview: whether there is a picture beside it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    files = content["files"]
    is_smp = content["network"]["from_pretrained"] == "segmentation_models_pytorch"
    settings = trained.slot.get("init_args") or {}
    known = trained.data.data
    values = {
        **content,
        "name": trained.run_name or trained.source.removeprefix("hf://") or trained.path.stem,
        "network_class": type(trained.network).__name__,
        "encoder": settings.get("encoder_name") or settings.get("name"),
        "source": trained.source,
        "training_terms": list(trained.training_bytes),
        "preview": PREVIEW if preview else "",
        "smallest_side": smallest_side,
        "size": _example_size(files),
        "weights_size": _example_size({WEIGHTS: files[WEIGHTS]}) if WEIGHTS in files else None,
        "training_data": _TERMS.get(
            known,
            f"Read by `{known}`. Name the images and their terms here before you pass this network "
            "on.",
        ),
        "splits": _splits(trained),
        "settings": json.dumps(content["network"]["settings"], indent=2, ensure_ascii=False),
    }
    card = ModelCard.from_template(
        ModelCardData(
            library_name="segmentation-models-pytorch" if is_smp else "pne_seg",
            pipeline_tag="image-segmentation",
            tags=["semantic-segmentation", "pytorch", *["onnx"] * (ONNX in files), "pne_seg"],
        ),
        template_path=str(_TEMPLATE),
        **values,
    )
    # The template's tags leave empty lines behind.
    text = re.sub(r"\n{3,}", "\n\n", str(card)).strip() + "\n"
    path.write_bytes(f"{text}{_SIGNATURE}{_digest(text)} -->\n".encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example_size(files: Mapping[str, Any]) -> tuple[int, int]:
    """Return a height and width that each of the files takes."""
    for note in files.values():
        if note["size"] != "any":
            return tuple(note["size"])
    multiple = max(note["multiple_of"] for note in files.values())
    return -(-256 // multiple) * multiple, -(-384 // multiple) * multiple


def _splits(trained: Trained) -> list[dict[str, Any]]:
    """Return the splits that were evaluated, with their metrics; the same images once."""
    metrics = trained.metrics
    names = {"val": "the validation split", "test": "the test split"}
    if any((of.get("protocol") or {}).get("same_images_as_val") for of in metrics.values()):
        same = "the validation split (this data set's test split is the same images)"
        names = {"test" if "test" in metrics else "val": same}
    splits = []
    for split in (name for name in names if name in metrics):
        found = metrics[split]
        keys = {
            "mIoU": "mIoU",
            "mean accuracy": "mAcc",
            "pixel accuracy": "pixel_accuracy",
            **{f"IoU {name}": f"IoU/{name}" for name in trained.data.class_names},
        }
        splits.append(
            {
                "images": names[split],
                "rows": [
                    (name, percent(found.get(f"{split}/{key}"))) for name, key in keys.items()
                ],
                "protocol": _protocol(found.get("protocol") or {}),
            }
        )
    return splits


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
    try:
        return pixel_sizes(sizes) if sizes else ""
    except (TypeError, ValueError):
        return ""
