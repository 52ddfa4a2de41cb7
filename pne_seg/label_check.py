"""Suspect labels of whole splits: a trained network looks at every image that can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import Dataset, SequentialSampler

from pne_seg.data.base import SegmentationDataModule, Split, whole
from pne_seg.data.samples import SampleView
from pne_seg.errors import UserError
from pne_seg.inference import Predictor
from pne_seg.suspects import SuspectSearch, WorstSuspects
from pne_seg.trained import Trained


@dataclass(eq=False)
class _Readable(Dataset[dict[str, Any] | None]):
    """Samples of a split; None for one that cannot be read or has other labels than classes."""

    view: SampleView
    num_classes: int
    ignore_index: int

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        try:
            sample = self.view[index]
        # What `check-data` takes for a fault of the files, too.
        except (UserError, ValueError, LookupError, OSError, RuntimeError, cv2.error):
            return None
        labels = sample["mask"]
        known = (labels >= 0) & (labels < self.num_classes) | (labels == self.ignore_index)
        return sample if known.all() else None


def find_suspects(
    data: SegmentationDataModule,
    trained: Trained,
    splits: Sequence[Split],
    search: SuspectSearch,
) -> tuple[WorstSuspects, int]:
    """Compare the labels of some splits with a network's predictions, in float32.

    The network sees the images as its run's protocol says, one at a time, on the accelerator where
    there is one.

    Returns:
        The worst suspects of all splits, and the number of samples that were left out because they
        cannot be read.
    """
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network, preprocessing = trained.network.to(device), trained.preprocessing.to(device)
    predictor = Predictor(network, preprocessing, trained.inference)
    ignore, unreadable = data.ignore_index, 0
    worst = WorstSuspects(search, data.class_names, ignore)
    console = Console(stderr=True)
    for split in splits:
        view = SampleView(data.split(split), resize_base=data.resize_base)
        readable = _Readable(view, data.num_classes, ignore)
        sampler = SequentialSampler(readable)
        loader = data.loader(readable, sampler, batch_size=None, collate_fn=whole)
        said, quiet = f"Comparing {split}", not console.is_terminal
        for sample in track(loader, said, len(readable), console=console, disable=quiet):
            if sample is None:
                unreadable += 1
                continue
            image, labels = sample["image"], sample["mask"]
            with torch.inference_mode():
                scored = predictor.evaluate(
                    image[None].to(device), labels[None].to(device), ignore, True
                )
            assert scored.log_probabilities is not None
            chances = scored.log_probabilities[:, 0]
            worst.add(split, sample["name"], image, labels, scored.classes[0], chances)
    return worst, unreadable
