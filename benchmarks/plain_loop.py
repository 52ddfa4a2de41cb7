"""The PNE loss as a loop over images, classes and pairs, for comparison of its cost.

Each pair is vectorized, but is looked up with masks (a device synchronization each), repeats its
samples up to n and multiplies copies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def loop_loss(
    embeddings: Tensor, logits: Tensor, target: Tensor, n: int = 100, ignore_index: int = 255
) -> Tensor:
    """Compute the loss for (B, D, h, w), (B, C, h, w) and (B, H, W), with the default gates."""
    height, width = embeddings.shape[2:]
    small = F.interpolate(target[:, None].float(), size=(height, width)).long()[:, 0]
    confidence, prediction = logits.detach().softmax(1).max(1)
    terms, num_anchors = [], 0
    for image in range(len(embeddings)):
        label, predicted = small[image].flatten(), prediction[image].flatten()
        vectors = embeddings[image].flatten(1).T
        classes = [k for k in label.unique().tolist() if k != ignore_index]
        for j in classes:
            for k in classes:
                if j == k:
                    continue
                anchors = ((predicted == j) & (label == k)).nonzero()[:, 0]
                positives = ((predicted == k) & (label == k)).nonzero()[:, 0]
                if not 0 < len(anchors) <= 199 or len(positives) == 0:
                    continue
                negatives = ((predicted == j) & (label == j)).nonzero()[:, 0]
                if len(negatives) == 0:
                    negatives = anchors
                num_anchors += len(anchors)
                a, p, q = (_cycle(found, n) for found in (anchors, positives, negatives))
                chance = confidence[image].flatten()[p]
                terms.append(_pair(vectors[a], vectors[p].detach(), vectors[q].detach(), chance))
    if not terms:
        return embeddings[:0].sum()
    return torch.cat(terms).mean() * (num_anchors / (len(terms) * n))


def _pair(anchors: Tensor, positives: Tensor, negatives: Tensor, confidence: Tensor) -> Tensor:
    norm = anchors.detach().norm(dim=1, keepdim=True)
    to_positives = (anchors @ positives.T / norm / positives.norm(dim=1)).exp() * confidence
    to_negatives = (anchors @ negatives.T / norm / negatives.norm(dim=1)).exp()
    return torch.log1p(to_negatives.sum(1) / to_positives.sum(1))


def _cycle(found: Tensor, n: int) -> Tensor:
    return found.repeat(-(-n // len(found)))[:n]
