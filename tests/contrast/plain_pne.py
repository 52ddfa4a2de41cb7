"""The PNE loss re-computed from its definition with plain loops, in float64.

Shares no code with the package: loops over images, pairs of classes and anchors, the formula as
written, log(1 + sum exp / sum q exp), and autograd for the gradient.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scope = Literal["image", "batch"]
Pixel = tuple[int, int, int]  # image, row, column


@dataclass(frozen=True)
class Settings:
    temperature: float = 1.0
    num_samples: int = 100
    min_anchors: int = 0
    max_anchors: int = 199
    ignore_index: int = 255
    weight_positives: bool = True
    scope: Scope = "image"
    scale: Literal["authors", "none"] = "authors"
    stop_gradient: Literal["authors", "none"] = "authors"


class PlainPair(NamedTuple):
    """The n samples of each set, with repetitions, and the number of anchors before sampling."""

    anchors: list[Pixel]
    positives: list[Pixel]
    negatives: list[Pixel]
    size: int


class PlainResult(NamedTuple):
    loss: float
    gradient: Tensor
    num_pairs: int
    num_anchors: int


def plain_pairs(
    size: tuple[int, int], logits: Tensor, target: Tensor, settings: Settings
) -> list[PlainPair]:
    h, w = size
    predicted: dict[Pixel, int] = {}
    label: dict[Pixel, int] = {}
    for b in range(len(target)):
        for i in range(h):
            for j in range(w):
                scores = score_at(logits, (b, i, j), size).tolist()
                predicted[b, i, j] = scores.index(max(scores))
                row, column = i * target.shape[1] // h, j * target.shape[2] // w
                label[b, i, j] = int(target[b, row, column])

    def where(true_class: int, predicted_class: int, image: int | None) -> list[Pixel]:
        """Pixels of a true class predicted as a class, row by row, of an image or of all."""
        return [
            at for at in label
            if label[at] == true_class and predicted[at] == predicted_class
            and image in (None, at[0])
        ]  # fmt: skip

    pairs = []
    for b in range(len(target)):
        home = b if settings.scope == "image" else None
        present = {label[at] for at in label if home in (None, at[0])} - {settings.ignore_index}
        for j in sorted(present):
            for k in sorted(present):
                anchors = where(k, j, b)
                positives, negatives = where(k, k, home), where(j, j, home)
                if j == k or not anchors or not positives:
                    continue
                if not settings.min_anchors <= len(anchors) <= settings.max_anchors:
                    continue
                n = settings.num_samples
                pairs.append(
                    PlainPair(
                        _sample(anchors, n),
                        _sample(positives, n),
                        _sample(negatives or anchors, n),
                        len(anchors),
                    )
                )
    return pairs


def plain_loss(
    varying: Tensor, constant: Tensor, logits: Tensor, pairs: list[PlainPair], settings: Settings
) -> Tensor:
    """The loss with anchors from ``varying`` and all that is constant from ``constant``.

    Both are (B, D, h, w) embeddings; the value is the loss where they are equal.
    """
    if not pairs:
        return varying.new_zeros(())
    total = varying.new_zeros(())
    size = (varying.shape[2], varying.shape[3])
    for pair in pairs:
        for b, i, j in pair.anchors:
            anchor = varying[b, :, i, j] / constant[b, :, i, j].norm()

            def exponential(pixel: Pixel, anchor: Tensor = anchor) -> Tensor:
                b, i, j = pixel
                fixed = constant[b, :, i, j]
                return torch.exp(anchor @ fixed / fixed.norm() / settings.temperature)

            numerator = torch.stack([exponential(pixel) for pixel in pair.negatives]).sum()
            denominator = torch.stack(
                [
                    exponential(pixel)
                    * (confidence(logits, pixel, size) if settings.weight_positives else 1.0)
                    for pixel in pair.positives
                ]
            ).sum()
            total = total + torch.log(1 + numerator / denominator)
    sampled = len(pairs) * settings.num_samples
    factor = 1.0
    if settings.scale == "authors":
        factor = sum(pair.size for pair in pairs) / sampled
    return total / sampled * factor


def plain_pne(
    embeddings: Tensor, logits: Tensor, target: Tensor, settings: Settings
) -> PlainResult:
    constant = embeddings.detach().double()
    varying = constant.clone().requires_grad_()
    pairs = plain_pairs((constant.shape[2], constant.shape[3]), logits, target, settings)
    frozen = constant if settings.stop_gradient == "authors" else varying
    loss = plain_loss(varying, frozen, logits.double(), pairs, settings)
    gradient = torch.zeros_like(constant)
    if pairs:
        (gradient,) = torch.autograd.grad(loss, varying)
    return PlainResult(loss.item(), gradient, len(pairs), sum(pair.size for pair in pairs))


def score_at(logits: Tensor, pixel: Pixel, size: tuple[int, int]) -> Tensor:
    """The logits (C,) at a pixel of the embeddings' grid."""
    b, i, j = pixel
    return logits[b, :, i * logits.shape[2] // size[0], j * logits.shape[3] // size[1]]


def confidence(logits: Tensor, pixel: Pixel, size: tuple[int, int]) -> Tensor:
    return torch.softmax(score_at(logits, pixel, size), 0).max()


def _sample(pixels: list[Pixel], n: int) -> list[Pixel]:
    return [pixels[i % len(pixels)] for i in range(n)]
