"""`pne_seg.load`: a trained network as an object from image to class map."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from pne_seg.data.data_file import open_file
from pne_seg.data.images import Pixels, as_input, read_image
from pne_seg.description import Color, listed
from pne_seg.errors import UserError
from pne_seg.imports import Imports
from pne_seg.inference import Inference, Predictor
from pne_seg.shipped_configs import find_config
from pne_seg.trained import Trained, load_trained, read_settings
from pne_seg.visualization import color_labels, overlay

ImageLike = str | os.PathLike[str] | npt.NDArray[Any] | Image.Image
"""A file, an (H, W, 3) uint8 RGB array, or a picture of Pillow's."""

ClassMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""(H, W) class indices."""


class Segmenter:
    """Class maps of images, as `pne-seg predict` writes them.

    Args:
        trained: network, normalization, classes and image size.
        device: such as `"cuda"`; the accelerator where there is one, else the CPU.
        inference: in place of the run's own protocol.
    """

    def __init__(
        self,
        trained: Trained,
        device: str | torch.device | None = None,
        inference: Inference | None = None,
    ) -> None:
        if device is None:
            accelerator = torch.accelerator.current_accelerator(check_available=True)
            device = accelerator or torch.device("cpu")
        self.device = torch.device(device)
        self.trained = trained
        network = trained.network.to(self.device)
        preprocessing = trained.preprocessing.to(self.device)
        self._scorer = Predictor(network, preprocessing, inference or trained.inference)

    @property
    def inference(self) -> Inference:
        """How images are shown to the network."""
        return self._scorer.inference

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of class indices."""
        return self.trained.data.class_names

    @property
    def palette(self) -> tuple[Color, ...]:
        """C colors, red, green and blue in 0–255."""
        return self.trained.data.palette

    def predict(self, image: ImageLike) -> ClassMap:
        """Predict the class of each pixel, at the image's own size.

        Args:
            image: a file (turned as its EXIF data say); an (H, W, 3) uint8 RGB array, or an (H, W)
                gray one; or a picture of Pillow's, turned and converted to RGB, which must not be
                transparent.

        Returns:
            (H, W) class indices, uint8 (uint16 where there are more than 256 classes).

        Raises:
            UserError: the file is unreadable, or how to read the array is unclear: floats, four
                channels, channels first.
        """
        pixels = as_pixels(image)
        batch = as_input(pixels, self.trained.data.resize_base).unsqueeze(0)
        with torch.inference_mode():
            classes = self._scorer.classes(batch.to(self.device), pixels.shape[:2])[0]
        found = classes.cpu().numpy()
        return found.astype(np.uint16) if len(self.class_names) > 256 else found.astype(np.uint8)

    def color(self, classes: ClassMap) -> Pixels:
        """Paint (H, W) class indices in the palette's colors, (H, W, 3) uint8 RGB."""
        return color_labels(classes, self.palette, self.trained.data.ignore_index)

    def overlay(
        self, image: ImageLike, classes: ClassMap | None = None, opacity: float = 0.5
    ) -> Image.Image:
        """Lay the classes' colors over their image; notebooks show the picture.

        Args:
            image: as for `predict`.
            classes: (H, W), of the image's size; the prediction by default.
            opacity: 0 shows only the image, 1 only the colors.
        """
        pixels, ignored = as_pixels(image), self.trained.data.ignore_index
        classes = self.predict(pixels) if classes is None else classes
        return Image.fromarray(overlay(pixels, classes, self.palette, ignored, opacity))

    def __repr__(self) -> str:
        """Say what is loaded, in lines."""
        network, trained = self.trained.network, self.trained
        encoder = (trained.slot.get("init_args") or {}).get("encoder_name")
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        base = trained.data.resize_base
        lines = {
            "network": type(network).__name__
            + (f" on {encoder}" if encoder else "")
            + f", {millions:.3g} million parameters",
            "classes": f"{len(self.class_names)}: {listed(self.class_names)}",
            "images": "at their own size" if base is None else f"fitted to {base[0]}×{base[1]}",
            "scored": str(self.inference),
            "device": str(self.device),
            "source": trained.source or str(trained.path),
        }
        return "\n".join(["Segmenter", *(f"  {key:<8}{text}" for key, text in lines.items())])


def load(
    path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    inference: Inference | None = None,
    config: str | os.PathLike[str] | None = None,
    allow: Sequence[str] = (),
) -> Segmenter:
    """Load a trained network for use.

        segmenter = pne_seg.load("runs/camvid_upernet_resnet18/0")
        classes = segmenter.predict("photo.jpg")

        segmenter = pne_seg.load(
            "hf://smp-hub/upernet-swin-tiny", config="ade20k_upernet_swin"
        )

    It calculates in float32, whatever precision the run was trained and scored in
    (`trainer.precision`).

    Args:
        path: a run's folder (its best checkpoint), a checkpoint in a run's folder, the folder of an
            export, or an export on the Hugging Face hub, `hf://OWNER/NAME[@REVISION]`; `~` is the
            user's home. With `config`, any source of weights: a file, a folder, a hub repository or
            an address, in the form of smp, mmsegmentation or transformers.
        device: such as `"cuda"`; the accelerator where there is one, else the CPU.
        inference: in place of the run's own protocol (windows, scales, mirrored).
        config: for weights from elsewhere, a YAML file that names network and data, or the name of
            a shipped config.
        allow: packages and modules, such as `["my_package"]`, that a run or an export may name
            classes of, beside those of this project. The user's own modules need no mention for a
            `config` and for a run below the working directory's `runs`.

    Raises:
        UserError: there is no trained network there, it is damaged, or it names a class that is
            not allowed.
    """
    if isinstance(allow, str):
        raise UserError(f"allow takes a list of modules: allow=[{allow!r}].")
    file = None if config is None else find_config(str(Path(config).expanduser()))
    settings = None if file is None else read_settings(file)
    trained = load_trained(os.fspath(path), settings, Imports(allow=tuple(allow)))
    return Segmenter(trained, device, inference)


def as_pixels(image: ImageLike) -> Pixels:
    """Return any image as (H, W, 3) uint8 RGB; see `Segmenter.predict`."""
    if isinstance(image, str | os.PathLike):
        return read_image(open_file(Path(image).expanduser()))
    if isinstance(image, Image.Image):
        return _of_picture(image)
    if not isinstance(image, np.ndarray):
        raise UserError(
            "An image is a file's path, an (H, W, 3) uint8 RGB array or a picture of Pillow's, "
            f"not {type(image).__name__}."
        )
    expected = "(height, width, 3), RGB"
    if image.dtype != np.uint8:
        expected = "uint8 in 0–255. Convert values in 0–1 by (image * 255).round().astype('uint8')"
    elif image.ndim in (2, 3) and not image.size:
        expected += ": it has no pixels"
    elif image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    elif image.ndim == 3 and image.shape[2] == 4:
        expected += ". Drop the fourth channel, image[..., :3], or blend it with a background"
    elif image.ndim == 3 and image.shape[2] != 3 and image.shape[0] == 3:
        expected += ". It has channels first: move them last by image.transpose(1, 2, 0)"
    elif image.ndim == 3 and image.shape[2] == 3:
        return image
    raise UserError(f"The image is {image.dtype} of shape {image.shape}; expected {expected}.")


def _of_picture(image: Image.Image) -> Pixels:
    if image.mode.startswith(("I", "F")):
        raise UserError(
            f"The picture's mode is {image.mode}, more than 8 bits, and which value "
            "is white is unknown. Convert it to 8 bits first."
        )
    if not image.width or not image.height:
        raise UserError(f"The picture is {image.width}×{image.height} pixels: it has none.")
    turned = ImageOps.exif_transpose(image)
    if turned.has_transparency_data and np.asarray(turned.convert("RGBA"))[..., 3].min() < 255:
        raise UserError(
            "The picture is transparent in places. Blend it with a background, or drop the "
            'transparency: image.convert("RGB").'
        )
    return np.asarray(turned.convert("RGB"), np.uint8)
