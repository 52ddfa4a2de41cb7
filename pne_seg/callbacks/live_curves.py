"""Curves in a notebook that grow while it trains."""

from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from pne_seg import visualization
from pne_seg.errors import UserError
from pne_seg.runs import read_history


class LiveCurves(Callback):
    """Show losses and mIoU below the notebook's cell, redrawn after each validation.

    `figures/curves.png` in the run's folder is then up to date, too.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a notebook to draw into."""
        if find_spec("IPython") is None:
            raise UserError("LiveCurves draws into notebooks, but IPython is missing.")
        self._is_shown = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir  # a broadcast, so that all processes read it
        if trainer.sanity_checking or not folder or not trainer.is_global_zero:
            return
        from IPython.display import Image, display

        for logger in trainer.loggers:
            logger.save()
        file = Path(folder, "figures", "curves.png")
        figure = visualization.plot_curves(read_history(Path(folder)), title="Training")
        visualization.save_figure(figure, file)
        display(Image(filename=file), display_id=f"curves of {folder}", update=self._is_shown)  # type: ignore[no-untyped-call]
        self._is_shown = True
