"""What the terminal shows of a run: its device, the number of parameters, the progress."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, RichProgressBar
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_summary.model_summary import get_human_readable_count
from rich.console import Console
from rich.progress import BarColumn

from pne_seg.metrics import percent


def device_name(trainer: Trainer) -> str:
    """Return the name of a trainer's device, with the number if there are several."""
    device, count = trainer.strategy.root_device, trainer.num_devices * trainer.num_nodes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{count} × {name}" if count > 1 else name


def terminal_callbacks(config: Mapping[str, Any], given: Sequence[Callback]) -> list[Callback]:
    """Return the bar and the parameters that the settings ask for and the user does not give."""
    kinds: list[tuple[str, type[Callback], type[Callback]]] = [
        ("enable_progress_bar", ProgressBar, Progress),
        ("enable_model_summary", ModelSummary, Parameters),
    ]
    return [
        own()
        for setting, kind, own in kinds
        if config[setting] is not False
        and not config["barebones"]
        and not any(isinstance(callback, kind) for callback in given)
    ]


def stop_progress(trainer: Trainer) -> None:
    """End the progress bar, whose next redraw would erase what is printed in between."""
    bar = trainer.progress_bar_callback
    if bar is not None:
        bar.teardown(trainer, trainer.lightning_module, str(trainer.state.fn))


class Progress(RichProgressBar):
    """Lightning's bar, with the mIoU in percent; in a log file a line for each validation."""

    def __init__(self) -> None:
        super().__init__()
        console = Console()
        self._is_live = console.is_terminal or console.is_jupyter
        if not self._is_live:
            self.disable()

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Leave room for losses and metrics in a terminal of 100 columns."""
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = 12
        return columns

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what the bar shows: fractions in the unit of the tables."""
        metrics: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)  # the number of the run's folder, printed before
        for name, value in metrics.items():
            if name.endswith("/mIoU"):
                metrics[name] = f"{percent(value)}%"
        return metrics

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the bar, or write its line."""
        super().on_validation_end(trainer, pl_module)
        if self._is_live or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        texts = [
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.get_metrics(trainer, pl_module).items()
        ]
        rank_zero_info(
            f"epoch {trainer.current_epoch}, step {trainer.global_step}: {', '.join(texts)}"
        )


class Parameters(ModelSummary):
    """Print in one line how many parameters the network and the training-only terms have."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count them; Lightning's table has rows for what has none, and FLOPs that it lacks."""
        parts = []
        for name, part in pl_module.named_children():
            if count := sum(weights.numel() for weights in part.parameters()):
                counted = get_human_readable_count(count).strip()
                parts.append(f"{counted} in {name} ({type(part).__name__})")
        frozen = sum(w.numel() for w in pl_module.parameters() if not w.requires_grad)
        more = f"; {get_human_readable_count(frozen).strip()} of them frozen" if frozen else ""
        rank_zero_info(f"Parameters: {', '.join(parts)}{more}")
