"""From images to classes: the network under a protocol, in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.modules import Activation
from torch import Tensor, nn

from pne_seg.inference.preprocessing import Preprocessing
from pne_seg.inference.protocol import WHOLE_IMAGES, Inference
from pne_seg.inference.score_maps import (
    Computed,
    Cut,
    Mirrored,
    Resized,
    ScoreMap,
    Stitched,
    Tile,
)
from pne_seg.inference.windows import window_places, window_weight


class Scored(NamedTuple):
    """Classes, and how well they fit labels.

    Attributes:
        classes: (B, H, W) int64.
        loss: scalar float64 (float32 on Apple's GPUs), the cross-entropy summed over the labelled
            pixels.
        pixels: scalar int64, the number of labelled pixels.
    """

    classes: Tensor
    loss: Tensor
    pixels: Tensor


class ImageScorer:
    """Class scores of images of any size.

    Of one view (one scale, not mirrored) the scores are kept at the network's resolution alone and
    looked at in bands of rows. Of several, the sum of their probabilities is held at full size, for
    one image at a time, and beside it one view at the network's resolution. A network that
    enlarges its scores by a last bilinear step, as smp's do, is run without that step, which is
    done band by band. One that computes them at full size (Unet) holds them once for each view.

    Args:
        network: (B, 3, H, W) → (B, C, h, w).
        preprocessing: normalises and pads.
        inference: the protocol.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        inference: Inference = WHOLE_IMAGES,
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.inference = inference

    def classes(self, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The class of each pixel.

        Args:
            images: (B, 3, h, w) in 0–255, uint8 or float.
            size: H and W of the result; the images' own where not given.

        Returns:
            (B, H, W) int64.
        """
        return torch.cat(
            [
                torch.cat([band.argmax(1) for _, band in scores.bands()], dim=1)
                for scores in self._score_maps(images, size or images.shape[-2:])
            ]
        )

    def score(self, images: Tensor, target: Tensor, ignore_index: int) -> Scored:
        """The class of each pixel, at the labels' size, with its cross-entropy.

        Args:
            images: (B, 3, h, w) in 0–255, uint8 or float.
            target: (B, H, W) class indices or `ignore_index`.
            ignore_index: the label that is not counted.
        """
        labels, done = target.long(), 0
        found: list[Tensor] = []
        # Apple's GPUs have no double precision.
        precision = torch.float32 if target.device.type == "mps" else torch.float64
        loss = torch.zeros((), dtype=precision, device=target.device)
        for scores in self._score_maps(images, target.shape[-2:]):
            bands = []
            for rows, band in scores.bands():
                own = labels[done : done + len(band), rows]
                bands.append(band.argmax(1))
                log_probabilities = (
                    band.clamp_min(torch.finfo(band.dtype).tiny).log()  # never of 0
                    if self._averages
                    else band.log_softmax(1)
                )
                loss += F.nll_loss(
                    log_probabilities, own, ignore_index=ignore_index, reduction="sum"
                )
            found.append(torch.cat(bands, dim=1))
            done += len(found[-1])
        return Scored(torch.cat(found), loss, (labels != ignore_index).sum())

    def scores(self, images: Tensor) -> Tensor:
        """Class scores of all pixels at once: for small images, or where they are needed.

        Args:
            images: (B, 3, H, W) in 0–255, uint8 or float.

        Returns:
            (B, C, H, W), logits; the mean of the views' probabilities where there are several.
        """
        maps = self._score_maps(images, images.shape[-2:])
        return torch.cat([scores.rows(0, scores.size[0]) for scores in maps])

    @property
    def _averages(self) -> bool:
        return len(self.inference.views) > 1

    def _score_maps(self, images: Tensor, size: Sequence[int]) -> Iterator[ScoreMap]:
        """The batch's scores at a size; image by image where several views are averaged."""
        if not self._averages:
            (view,) = self.inference.views
            yield Resized(self._view(images, *view), size)
            return
        for image in images.split(1):
            yield self._mean_probabilities(image, size)

    def _mean_probabilities(self, image: Tensor, size: Sequence[int]) -> ScoreMap:
        total: Tensor | None = None
        views = self.inference.views
        for view in views:
            for rows, band in Resized(self._view(image, *view), size).bands():
                if total is None:
                    total = band.new_zeros(*band.shape[:2], *size)
                total[..., rows, :] += band.softmax(1)
        assert total is not None
        return Computed(total.div_(len(views)))

    def _view(self, images: Tensor, scale: float, flip: bool) -> ScoreMap:
        """Scores at the images' size times `scale`, as the network has them."""
        if scale != 1:
            height, width = (max(1, int(side * scale + 0.5)) for side in images.shape[-2:])
            images = F.interpolate(
                images.to(self.preprocessing.mean.dtype),
                size=(height, width),
                mode="bilinear",
                align_corners=False,
            )
        inputs = self.preprocessing.normalise(images.flip(-1) if flip else images)
        scores = self._whole(inputs) if self.inference.window is None else self._windows(inputs)
        return Mirrored(scores) if flip else scores

    def _windows(self, inputs: Tensor) -> ScoreMap:
        """Scores of normalised images, window by window."""
        window, stride = self.inference.window, self.inference.steps
        assert window is not None
        size = (inputs.shape[-2], inputs.shape[-1])
        height, width = (min(sides) for sides in zip(window, size, strict=True))
        places = window_places(size, window, stride)
        images = len(inputs)
        at_a_time = max(1, self.inference.windows_per_pass // images)
        tiles = []
        for start in range(0, len(places), at_a_time):
            group = places[start : start + at_a_time]
            crops = [inputs[..., top : top + height, left : left + width] for top, left in group]
            scores = self._compute(torch.cat(crops))
            for (top, left), own in zip(group, scores.split(images), strict=True):
                tiles.append(Tile(top, left, self._at_input_size(own, (height, width))))
        weight = window_weight((height, width), self.inference.blend).to(inputs.device)
        return Stitched(tiles, size, weight)

    def _whole(self, inputs: Tensor) -> ScoreMap:
        """Scores of normalised images."""
        return self._at_input_size(self._compute(inputs), inputs.shape[-2:])

    def _compute(self, inputs: Tensor) -> Tensor:
        with _without_upsampling(self.network):
            scores: Tensor = self.network(self.preprocessing.pad(inputs, 0))
        return scores

    def _at_input_size(self, scores: Tensor, size: Sequence[int]) -> ScoreMap:
        """Undo what the network and the padding did to the size."""
        found: ScoreMap = Computed(scores)
        if (last := _last_upsampling(self.network)) is not None:
            enlarged = [int(side * last.factor) for side in found.size]
            found = Resized(found, enlarged, last.align_corners)
        stride = self.preprocessing.stride
        padded = tuple(side + -side % stride for side in size)
        if found.size != padded:
            found = Resized(found, padded)
        return found if padded == tuple(size) else Cut(found, size)


class _LastUpsampling(NamedTuple):
    """The bilinear step that ends smp's segmentation head."""

    head: nn.Sequential
    place: int
    factor: float
    align_corners: bool


def _last_upsampling(network: nn.Module) -> _LastUpsampling | None:
    """Find it, where nothing that matters comes after it."""
    head = getattr(network, "segmentation_head", None)
    if not isinstance(head, nn.Sequential):
        return None
    for place in reversed(range(len(head))):
        layer = head[place]
        if isinstance(layer, nn.Upsample):
            factor = layer.scale_factor
            if layer.mode != "bilinear" or not isinstance(factor, int | float):
                return None
            return _LastUpsampling(head, place, factor, bool(layer.align_corners))
        if not _is_identity(layer):
            return None
    return None


def _is_identity(layer: nn.Module) -> bool:
    inner = layer.activation if isinstance(layer, Activation) else layer
    return isinstance(inner, nn.Identity)


@contextmanager
def _without_upsampling(network: nn.Module) -> Iterator[None]:
    """Take that step out of the network for a while."""
    last = _last_upsampling(network)
    if last is None:
        yield
        return
    step = last.head[last.place]
    last.head[last.place] = nn.Identity()
    try:
        yield
    finally:
        last.head[last.place] = step
