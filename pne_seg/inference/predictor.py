"""From images to classes: the network under a protocol, in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.base.modules import Activation
from torch import Tensor, nn

from pne_seg.inference.logit_maps import LogitMap, computed, cut, mirrored, resized, stitched
from pne_seg.inference.preprocessing import Preprocessing
from pne_seg.inference.protocol import WHOLE_IMAGES, Inference, window_positions, window_weight


class Evaluation(NamedTuple):
    """Predicted classes, and how well they fit labels.

    Attributes:
        classes: (B, H, W) int64.
        loss: scalar, the cross-entropy summed over the labeled pixels.
        pixels: scalar int64, the number of labeled pixels.
        log_probabilities: (2, B, H, W) float32, of the predicted class and of the label (0 where
            there is none); None unless asked for.
    """

    classes: Tensor
    loss: Tensor
    pixels: Tensor
    log_probabilities: Tensor | None = None


class Predictor:
    """Predict images of any size under a protocol.

    Of one view (one scale, not mirrored) only the logits at the network's resolution are kept, and
    looked at in bands of rows. Of several, the sum of their probabilities is held at full size, for
    one image at a time, and beside it one view at the network's resolution. The bilinear step that
    ends smp's networks is done band by band. A network that computes its logits at full size (Unet)
    holds them once for each view.
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
        self._run = _low_resolution_logits

    def compile(self) -> None:
        """Compile the network's forward pass with `torch.compile`."""
        self._run = torch.compile(_low_resolution_logits)

    def classes(self, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Predict the class of each pixel of (B, 3, h, w) images in 0–255, uint8 or float.

        `size` is that of the (B, H, W) int64 result, by default the images' own.
        """
        maps = self._logit_maps(images, size or images.shape[-2:])
        return torch.cat(
            [torch.cat([band.argmax(1) for _, band in logits.bands()], dim=1) for logits in maps]
        )

    def evaluate(
        self, images: Tensor, target: Tensor, ignore_index: int, log_probabilities: bool = False
    ) -> Evaluation:
        """Predict each pixel's class at the size of the labels (B, H, W); sum the cross-entropy.

        With `log_probabilities`, keep those of the predicted classes and of the labels.
        """
        labels, done = target.long(), 0
        found: list[Tensor] = []
        kept: list[Tensor] = []
        # Apple's GPUs have no double precision.
        precision = torch.float32 if target.device.type == "mps" else torch.float64
        loss = torch.zeros((), dtype=precision, device=target.device)
        for logits in self._logit_maps(images, target.shape[-2:]):
            bands: list[Tensor] = []
            of_bands: list[Tensor] = []
            for rows, band in logits.bands():
                own = labels[done : done + len(band), rows]
                bands.append(band.argmax(1))
                if self._averages:  # no logarithm of 0
                    logarithm = band.clamp_min(torch.finfo(band.dtype).tiny).log()
                else:
                    logarithm = band.log_softmax(1)
                loss += F.nll_loss(logarithm, own, ignore_index=ignore_index, reduction="sum")
                if log_probabilities:
                    predicted = logarithm.gather(1, bands[-1][:, None])[:, 0]
                    missed = F.nll_loss(logarithm, own, ignore_index=ignore_index, reduction="none")
                    of_bands.append(torch.stack([predicted, -missed]).float())
            found.append(torch.cat(bands, dim=1))
            done += len(found[-1])
            if log_probabilities:
                kept.append(torch.cat(of_bands, dim=2))
        pixels = (labels != ignore_index).sum()
        return Evaluation(torch.cat(found), loss, pixels, torch.cat(kept, dim=1) if kept else None)

    def logits(self, images: Tensor) -> Tensor:
        """Compute (B, C, H, W) logits of all pixels at once from (B, 3, H, W) images in 0–255.

        If there are several views, this is the mean of their probabilities.
        """
        maps = self._logit_maps(images, images.shape[-2:])
        return torch.cat([logits.rows(0, logits.size[0]) for logits in maps])

    @property
    def _averages(self) -> bool:
        return len(self.inference.views) > 1

    def _logit_maps(self, images: Tensor, size: Sequence[int]) -> Iterator[LogitMap]:
        """Yield the batch's logits at a size; image by image if several views are averaged."""
        if not self._averages:
            (view,) = self.inference.views
            yield resized(self._view(images, *view), size)
            return
        for image in images.split(1):
            yield self._mean_probabilities(image, size)

    def _mean_probabilities(self, image: Tensor, size: Sequence[int]) -> LogitMap:
        total: Tensor | None = None
        views = self.inference.views
        for view in views:
            for rows, band in resized(self._view(image, *view), size).bands():
                if total is None:
                    total = band.new_zeros(*band.shape[:2], *size)
                total[..., rows, :] += band.softmax(1)
        assert total is not None
        return computed(total.div_(len(views)))

    def _view(self, images: Tensor, scale: float, flip: bool) -> LogitMap:
        """Compute logits at the images' size times `scale`."""
        if scale != 1:
            height, width = (max(1, int(side * scale + 0.5)) for side in images.shape[-2:])
            images = F.interpolate(
                images.to(self.preprocessing.mean.dtype),
                size=(height, width),
                mode="bilinear",
                align_corners=False,
            )
        inputs = self.preprocessing.normalize(images.flip(-1) if flip else images)
        if self.inference.window is None:
            (logits,) = self._compute(inputs, len(inputs))
        else:
            logits = self._windows(inputs, self.inference.window)
        return mirrored(logits) if flip else logits

    def _windows(self, inputs: Tensor, window: tuple[int, int]) -> LogitMap:
        """Compute logits of normalized images by sliding windows."""
        size = inputs.shape[-2:]
        height, width = (min(sides) for sides in zip(window, size, strict=True))
        positions = window_positions(size, window, self.inference.steps)
        images = len(inputs)
        at_a_time = max(1, self.inference.windows_per_pass // images)
        tiles = []
        for start in range(0, len(positions), at_a_time):
            group = positions[start : start + at_a_time]
            crops = [inputs[..., top : top + height, left : left + width] for top, left in group]
            maps = self._compute(torch.cat(crops), images)
            tiles += [(*place, logits) for place, logits in zip(group, maps, strict=True)]
        weight = window_weight((height, width), self.inference.blend).to(inputs.device)
        return stitched(tiles, size, weight)

    def _compute(self, inputs: Tensor, batch: int) -> list[LogitMap]:
        """Compute logits of normalized images at their size, one map for every `batch` of them."""
        padded = self.preprocessing.pad(inputs, 0)
        logits, factor, align_corners = self._run(self.network, padded)
        maps = []
        for part in logits.split(batch):
            found = computed(part)
            if factor != 1:
                found = resized(found, [int(side * factor) for side in found.size], align_corners)
            if found.size != padded.shape[-2:]:
                found = resized(found, padded.shape[-2:])
            maps.append(found if padded is inputs else cut(found, inputs.shape[-2:]))
        return maps


def _low_resolution_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, float, bool]:
    """Run a network without the bilinear step that ends smp's, which is then done by bands.

    A network with a `forward` of its own, or whose head ends otherwise, is called as it is.

    Returns:
        (B, C, h, w) logits, then scale factor and corner alignment of the step; 1 if there is none.
    """
    head = getattr(network, "segmentation_head", None)
    if type(network).forward is SegmentationModel.forward and isinstance(head, SegmentationHead):
        convolution, step, activation = head
        last = isinstance(activation, Activation) and isinstance(activation.activation, nn.Identity)
        if last and isinstance(step, nn.Upsample) and step.mode == "bilinear":
            if not torch.compiler.is_compiling():
                network.check_input_shape(images)  # type: ignore[operator]
            features = network.encoder(images)  # type: ignore[operator]
            logits = convolution(network.decoder(features))  # type: ignore[operator]
            factor: Any = step.scale_factor
            return logits, factor, bool(step.align_corners)
    return network(images), 1, False
