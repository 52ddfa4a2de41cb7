"""What a command did, for notebooks and scripts."""

import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pne_seg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Trainer

    from pne_seg.cli.command import SegmentationCLI
    from pne_seg.data import SegmentationDataModule
    from pne_seg.metrics import SegmentationMetrics
    from pne_seg.module import SegmentationModule

_MOST_OVERLAYS = 6


class Result:
    """What `main` returns: the folder, the metrics and the pictures of a command.

    Attributes:
        verb: the command, such as `fit`.
        run_folder: where it wrote: the run's folder, that of the evaluation or predictions in it,
            or that of the export or data check; None after a dry run.
    """

    def __init__(
        self, verb: str, run_folder: Path | None, command: "SegmentationCLI | None" = None
    ) -> None:
        self.verb = verb
        self.run_folder = run_folder
        self._command = command

    @property
    def command(self) -> "SegmentationCLI":
        """The command itself; after fit, validate, test and predict only."""
        if self._command is None:
            raise UserError(f"{self.verb} has no trainer, model and data, only a run_folder.")
        return self._command

    @property
    def trainer(self) -> "Trainer":
        """Lightning's trainer."""
        return self.command.trainer

    @property
    def model(self) -> "SegmentationModule":
        """The training module; its `network` is what was trained."""
        model: SegmentationModule = self.command.model
        return model

    @property
    def datamodule(self) -> "SegmentationDataModule":
        """The data."""
        data: SegmentationDataModule = self.command.datamodule
        return data

    @property
    def metrics(self) -> "SegmentationMetrics":
        """The metrics as fractions; those of a training are from its best epoch."""
        found = self._command and self._command.metrics
        if not found:
            raise UserError(f"{self.verb} measured nothing: only fit, validate and test do.")
        return found

    @property
    def scores(self) -> "pd.DataFrame":
        """The metrics in percent: a row per class, and one for all of them."""
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise UserError(
                "scores needs pandas: pip install 'pne-seg[notebook]'. Without it, use metrics."
            ) from error
        metrics = self.metrics
        by_class = {
            "IoU": metrics.iou.numpy(),
            "accuracy": metrics.accuracy.numpy(),
            "share of pixels": metrics.pixel_share.numpy(),
        }
        table = pd.DataFrame(by_class, index=pd.Index(self.model.class_names, name="class"))
        table.loc["mean"] = [metrics.miou, metrics.macc, float("nan")]
        table.loc["all pixels"] = [float("nan"), metrics.pixel_accuracy, 1.0]
        return 100 * table

    @property
    def figures(self) -> Mapping[str, Image.Image]:
        """The pictures in the folder by name, such as `predictions` or `curves`.

        A notebook shows one that ends a cell. Of predictions these are the first overlays.
        """
        if self.run_folder is None:
            return {}
        figures = self.run_folder / "figures"
        files = sorted((figures if figures.is_dir() else self.run_folder).glob("*.png"))
        if self.verb == "predict":
            overlays = self.run_folder / "overlay"
            files = sorted(overlays.rglob("*.jpg"))[:_MOST_OVERLAYS]
        return {file.stem: Image.open(io.BytesIO(file.read_bytes())) for file in files}

    def __repr__(self) -> str:
        """Name the folder, the mean metrics and the pictures."""
        lines = [f"{self.verb}: {self.run_folder or 'nothing written'}"]
        if self._command and (metrics := self._command.metrics):
            means = {"mIoU": metrics.miou, "mAcc": metrics.macc}
            means["pixel accuracy"] = metrics.pixel_accuracy
            lines.append(", ".join(f"{name} {100 * value:.2f}%" for name, value in means.items()))
        if names := ", ".join(self.figures):
            lines.append(f"figures: {names}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the same in a notebook, with the table of scores."""
        text = f"<pre>{html.escape(repr(self))}</pre>"
        try:
            table: str = self.scores.to_html(float_format="{:.2f}".format, na_rep="")
            return text + table
        except UserError:  # nothing was measured, or pandas is missing
            return text
