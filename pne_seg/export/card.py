"""The model card: what the network is, how to load it, what it scored, and what it is not for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pne_seg.description import pixel_sizes
from pne_seg.export.folder import FORMATS, PREVIEW, signed
from pne_seg.export.programs import smallest_side
from pne_seg.export.weights import loader
from pne_seg.inference import Inference
from pne_seg.metrics import percent
from pne_seg.trained import Trained

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
"""Training data and their terms by the data set's class."""

_SPLITS = {"val": "validation", "test": "test"}


def write_card(trained: Trained, content: Mapping[str, Any], path: Path, preview: bool) -> None:
    """Write `README.md`, with front matter as the Hugging Face hub reads it.

    Args:
        trained: what is exported.
        content: of `segmentation.json`.
        path: the file.
        preview: whether there is a picture beside it.
    """
    name = trained.run_name or trained.source.removeprefix("hf://") or trained.path.stem
    parts = [
        _front_matter(trained, content),
        f"# {name}",
        _what_it_is(trained, content),
        f"![Images with label, prediction and wrong pixels]({PREVIEW})" if preview else "",
        "## Use",
        _usage(trained, content),
        "## Classes",
        "\n".join(f"{i}. {c}" for i, c in enumerate(trained.data.class_names)),
        "## Training data",
        _data(trained),
        "## Scores",
        _scores(trained),
        "## Settings",
        _settings(trained, content),
        "## Limits",
        _limits(trained),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path.write_bytes(signed(text).encode())


def _front_matter(trained: Trained, content: Mapping[str, Any]) -> str:
    library = loader(trained.network)
    onnx = "- onnx\n" if FORMATS["onnx"] in content["files"] else ""
    name = "segmentation-models-pytorch" if library == "segmentation_models_pytorch" else "pne_seg"
    terms = "yours to choose, within the terms of the training data"
    if trained.source:
        terms = "that of the weights, see where they come from"
    return (
        f"---\nlibrary_name: {name}\npipeline_tag: image-segmentation\n"
        f"tags:\n- semantic-segmentation\n- pytorch\n{onnx}- pne_seg\n"
        f"# license: {terms}\n---"
    )


def _what_it_is(trained: Trained, content: Mapping[str, Any]) -> str:
    network = content["network"]
    settings = trained.slot.get("init_args") or {}
    encoder = settings.get("encoder_name") or settings.get("name")
    on = f" on {encoder}" if encoder else ""
    lines = [
        f"A semantic segmentation network, {type(trained.network).__name__}{on}, of "
        f"{network['parameters']:,} parameters, for {len(trained.data.class_names)} classes. "
        + _origin(trained),
        "" if trained.source else _left_out(trained),
    ]
    return "\n\n".join(filter(None, lines))


def _origin(trained: Trained) -> str:
    if trained.source:
        return (
            f"Its weights come from {trained.source}; see there for how they were trained, and for "
            "their license."
        )
    loss = "with a pixel-contrastive loss beside the classification loss"
    with_contrast = f", {loss}" if "contrast" in trained.training_bytes else ""
    return f"It was trained with pne_seg{with_contrast}."


def _left_out(trained: Trained) -> str:
    names = {"contrast": "the contrast's projection", "auxiliary": "the auxiliary head"}
    terms = [names[term] for term in trained.training_bytes]
    return f"Left out, as they serve training alone: {', '.join([*terms, 'the optimiser'])}."


def _usage(trained: Trained, content: Mapping[str, Any]) -> str:
    files = content["files"]
    blocks = [
        "Paths are relative to this folder. Classes come back as indices in the order of the list "
        "below; `segmentation.json` has their names and colours."
    ]
    if FORMATS["safetensors"] in files:
        blocks += [_safetensors(trained, content)]
    size = _try_size(files)
    for format, write in (("onnx", _onnx), ("torch", _torch)):
        if (note := files.get(FORMATS[format])) is not None:
            blocks += [_graph_note(FORMATS[format], note), write(size)]
    return "\n\n".join(blocks)


def _try_size(files: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width that each file takes."""
    for note in files.values():
        if note["size"] != "any":
            return tuple(note["size"])
    multiple = max(note["multiple_of"] for note in files.values())
    return -(-256 // multiple) * multiple, -(-384 // multiple) * multiple


def _safetensors(trained: Trained, content: Mapping[str, Any]) -> str:
    library = loader(trained.network)
    load = (
        "import pne_seg\n\n"
        'segmenter = pne_seg.load(".")\n'
        'classes = segmenter.predict("photo.jpg")  # (height, width) class indices'
    )
    said = (
        "**With pne_seg**, which does everything around the network (size, normalisation, "
        f"padding):\n\n```python\n{load}\n```"
    )
    if library is None:
        return said
    module = "segmentation_models_pytorch as smp" if library != "pne_seg.networks" else ""
    header = f"import {module}" if module else "from pne_seg.networks import from_pretrained"
    call = "smp.from_pretrained" if module else "from_pretrained"
    mean, std = content["mean"], content["std"]
    height, width = _try_size({"": content["files"][FORMATS["safetensors"]]})
    direct = (
        f"{header}\nimport torch\n\n"
        f'network = {call}(".").eval()\n'
        f"images = torch.zeros(1, 3, {height}, {width})  # RGB in 0 to 255, "
        f"sides divisible by {content['stride']}\n"
        f"mean = torch.tensor({json.dumps(mean)}).view(3, 1, 1)\n"
        f"std = torch.tensor({json.dumps(std)}).view(3, 1, 1)\n"
        "with torch.inference_mode():\n"
        "    scores = network((images - mean) / std)\n"
        "scores = torch.nn.functional.interpolate(scores, images.shape[-2:], mode='bilinear')\n"
        "classes = scores.argmax(1)"
    )
    what = "segmentation-models-pytorch" if module else "pne_seg's network alone"
    return f"{said}\n\n**With {what}**:\n\n```python\n{direct}\n```"


def _graph_note(file: str, note: Mapping[str, Any]) -> str:
    if note["size"] == "any":
        multiple = note["multiple_of"]
        takes = (
            "any number of images of any one size, both sides "
            f"{smallest_side(multiple)} pixels or more"
            + (f" and divisible by {multiple}" if multiple > 1 else "")
        )
    else:
        height, width = note["size"]
        takes = f"any number of images of {height}×{width} pixels (height×width), that size alone"
    return (
        f"**`{file}`** takes {takes}: RGB as float32 in 0 to 255, *not* normalised, which the "
        "graph does itself. It gives class scores at the images' size."
    )


def _onnx(size: tuple[int, int]) -> str:
    return (
        "```python\nimport numpy as np\nimport onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        f"images = np.zeros((1, 3, {size[0]}, {size[1]}), np.float32)\n"
        '(scores,) = session.run(None, {"images": images})\n'
        "classes = scores.argmax(1)\n```"
    )


def _torch(size: tuple[int, int]) -> str:
    return (
        "```python\nimport torch\n\n"
        'network = torch.export.load("model.pt2").module()\n'
        "with torch.inference_mode():\n"
        f"    scores = network(torch.zeros(1, 3, {size[0]}, {size[1]}))\n"
        "classes = scores.argmax(1)\n```"
    )


def _data(trained: Trained) -> str:
    known = _TERMS.get(trained.data.data)
    if known is not None:
        return known
    return (
        f"Read by `{trained.data.data}`. Name the images and their terms here before you pass this "
        "network on."
    )


def _scores(trained: Trained) -> str:
    if not trained.metrics:
        return (
            "This checkpoint was not scored (`cli.py validate --run …`, then export again), or its "
            "run's figures are another checkpoint's."
        )
    parts = []
    for split, where in _splits(trained).items():
        metrics = trained.metrics[split]
        rows = [
            ("mIoU", metrics.get(f"{split}/mIoU")),
            ("mean accuracy", metrics.get(f"{split}/mAcc")),
            ("pixel accuracy", metrics.get(f"{split}/pixel_accuracy")),
        ]
        rows += [(f"IoU {c}", metrics.get(f"{split}/IoU/{c}")) for c in trained.data.class_names]
        table = "\n".join(f"| {name} | {percent(value)} |" for name, value in rows)
        parts += [
            f"On {where}, in percent:",
            f"| | |\n| --- | ---: |\n{table}",
            _protocol(metrics.get("protocol") or {}),
        ]
    return "\n\n".join(parts)


def _splits(trained: Trained) -> dict[str, str]:
    """The splits whose figures are shown, in words: the same images once."""
    scored = trained.metrics
    if any((of.get("protocol") or {}).get("same_images_as_val") for of in scored.values()):
        split = "test" if "test" in scored else "val"
        return {split: "the validation split (this data set's test split is the same images)"}
    return {split: f"the {_SPLITS[split]} split" for split in scored}


def _protocol(known: Mapping[str, Any]) -> str:
    """How the scores came about, as far as their file says it."""
    said = []
    if known.get("images"):
        said.append(f"{known['images']} images of {known.get('data')}")
    seen, scored, files = (
        _sizes(known.get(key)) for key in ("image_sizes", "scored_at", "files_at")
    )
    if (shown := _shown(known.get("inference"))) is not None:
        said.append(f"{shown}{f' of {seen}' if seen else ''}")
    if known.get("files_at"):
        of = f" of {files}" if files else ""
        at = f"{scored or 'another size'}, to which the labels{of} were scaled"
    else:
        at = f"the labels' own size{f', {scored}' if scored else ''}"
    return (
        f"Protocol: {', '.join(said)}{'; ' if said else ''}scored at {at}; means over the classes "
        "that occur, n/a for one that occurs neither in labels nor in predictions."
    )


def _shown(saved: Any) -> Inference | None:
    try:
        return Inference(**saved)
    except (TypeError, ValueError):
        return None  # of another version


def _sizes(sizes: Any) -> str:
    """The smallest and the largest; nothing where a file says it otherwise."""
    try:
        return pixel_sizes(sizes) if sizes else ""
    except (TypeError, ValueError):
        return ""


def _settings(trained: Trained, content: Mapping[str, Any]) -> str:
    text = json.dumps(content["network"]["settings"], indent=2, ensure_ascii=False)
    source = f"Run `{trained.run_name}`, `{trained.path.name}`. " if trained.run_name else ""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    return f"{source}Written with {versions}. The network:\n\n```json\n{text}\n```"


def _limits(trained: Trained) -> str:
    return (
        f"It knows its {len(trained.data.class_names)} classes alone: every pixel gets one of "
        "them, whatever it shows. Scores were measured on images like those of training; expect "
        "less on others (another camera, place, light or scale). No figure says how sure the "
        "network is of a pixel. Do not rely on it where a mistake does harm."
    )
