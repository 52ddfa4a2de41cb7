"""Predicted class indices as PNG files under the images' names."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from pne_seg.files import write_bytes_atomically


class PredictionWriter(Callback):
    """Writes each prediction of `predict` to `folder/NAME.png`, at the size of the image's file.

    One channel of class indices: 8 bits, or 16 where there are more than 256 classes.

    Args:
        folder: where to; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch."""
        predictions = outputs.cpu().numpy()
        for prediction, name, size in zip(
            predictions, batch["name"], batch["source_size"], strict=True
        ):
            classes = prediction.astype(np.uint16 if prediction.max() > 255 else np.uint8)
            if classes.shape != tuple(size):
                classes = cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST)
            _, png = cv2.imencode(".png", classes)
            write_bytes_atomically(self.folder / f"{name}.png", png.tobytes())
            self.written += 1
