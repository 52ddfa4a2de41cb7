"""A batch as a half-trained network would see it: coherent regions, a third of the pixels wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = 255


@dataclass(frozen=True)
class Case:
    """Sizes of a benchmark case: B images of C classes, embeddings of D channels at h × w."""

    batch: int
    classes: int
    height: int
    width: int
    channels: int = 256

    def __str__(self) -> str:
        return ",".join(
            str(n) for n in (self.batch, self.classes, self.height, self.width, self.channels)
        )


@dataclass(frozen=True)
class Batch:
    """Inputs of a contrastive loss: (B, D, h, w), (B, C, h, w), (B, 4h, 4w)."""

    embeddings: Tensor
    logits: Tensor
    target: Tensor


def make_batch(
    case: Case, *, present: int = 13, wrong: float = 0.3, seed: int = 0, device: str = "cpu"
) -> Batch:
    """Draw a batch.

    Labels are Voronoi regions of ``present`` classes an image, 2% of them ignored. Predictions
    equal them but for cells of about 3 × 3 pixels with a chance of ``wrong``, which take another
    class of the image; each class has its favourite confusions (1 / rank), so that a few pairs are
    too large to count and most are small. Logits are noise with a margin on the predicted class.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = case.height, case.width
    labels, predictions = [], []
    for _ in range(case.batch):
        classes = torch.randperm(case.classes, generator=generator)[:present]
        region = _voronoi(height, width, 3 * present, generator) % len(classes)
        cell = _voronoi(height, width, height * width // 9, generator)
        cells = int(cell.max()) + 1
        confused = torch.rand(cells, generator=generator) < wrong
        # The class confused with: rank r of the others with a chance proportional to 1 / r.
        chance = 1 / torch.arange(1, len(classes), dtype=torch.float64)
        rank = torch.multinomial(chance, cells, replacement=True, generator=generator) + 1
        preference = torch.stack([_others(k, len(classes), generator) for k in range(len(classes))])
        predicted = torch.where(confused[cell], preference[region, rank[cell] - 1], region)
        labels.append(classes[region])
        predictions.append(classes[predicted])
    label, prediction = torch.stack(labels), torch.stack(predictions)
    label[torch.rand(label.shape, generator=generator) < 0.02] = IGNORE
    shape = (case.batch, case.classes, height, width)
    logits = torch.randn(shape, generator=generator)
    logits.scatter_add_(1, prediction[:, None], torch.full(shape, 8.0))
    embeddings = torch.randn(case.batch, case.channels, height, width, generator=generator)
    target = label.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return Batch(embeddings.to(device), logits.to(device), target.to(device))


def _voronoi(height: int, width: int, cells: int, generator: torch.Generator) -> Tensor:
    """(height, width) map of the nearest of ``cells`` random points."""
    points = torch.rand(cells, 2, generator=generator) * torch.tensor([height, width])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([rows, columns], -1).reshape(-1, 2).float()
    nearest = [torch.cdist(part, points).argmin(1) for part in torch.split(grid, 2048)]
    return torch.cat(nearest).view(height, width)


def _others(own: int, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(count, generator=generator)
    return order[order != own]
