"""What the contrast does to a training: similarities of pixels, gradients, and a picture."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pne_seg import visualization
from pne_seg.contrast import SelectiveLoss, prepare
from pne_seg.contrast.interface import resize_nearest, take
from pne_seg.data.base import SegmentationDataModule
from pne_seg.feature_hooks import FeatureHook, capture, find_classifier
from pne_seg.module import Batch, SegmentationModule
from pne_seg.tracking import log_figure, logged_step


class ContrastDiagnostics(Callback):
    """Log what the contrast rests on and what it does; off unless it is among the callbacks.

    At each logging step: `train/contrast_used`, the share of all pixels whose embeddings the loss
    reads, and `train/gradient_contrast` and `train/gradient_losses`, the L2 norms of the gradients
    that the weighted contrast and the losses on the logits send into the feature they share.

    At each validation, for `embedding` and `feature` (only the latter without a contrast), mean
    cosines: `val/…_right_within` and `…_right_between` of right pixels with the other right pixels
    of their class and of other classes, `…_wrong_within` and `…_wrong_between` of wrong pixels with
    the right pixels of their class and of the class they were taken for.

    `figures/embeddings.png` in the logger's folder shows the first and the latest embeddings in two
    dimensions. The run takes the same steps as without the callback.

    Args:
        num_images: images of the first validation batch that are looked at, of each process.
        num_pixels: labeled pixels of them that are looked at, drawn once.
    """

    def __init__(self, num_images: int = 4, num_pixels: int = 4096) -> None:
        for name, value in (("num_images", num_images), ("num_pixels", num_pixels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.num_images = num_images
        self.num_pixels = num_pixels
        # Of the feature that enters the classifier and the logits that leave it; with a contrast
        # also of the losses, the contrast, and the labels that it gets.
        self._hooks: list[FeatureHook] = []
        self._before: visualization.Embeddings | None = None
        self._folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Attach hooks to the network and the losses, for training only."""
        if stage != "fit":
            return
        if not isinstance(pl_module, SegmentationModule):
            raise TypeError(
                f"ContrastDiagnostics needs a SegmentationModule, got {type(pl_module).__name__}."
            )
        folder = trainer.log_dir  # a broadcast: all processes have to ask
        self._folder = Path(folder) if trainer.loggers and folder else None
        if pl_module.contrast is None:
            found = find_classifier(pl_module.network)
            feature, logits = found.feature, found.logits
        else:
            feature, logits = (hook.module_name for hook in pl_module.contrast.hooks)
        self._hooks = [
            FeatureHook(f"network.{feature}", "input"),
            FeatureHook(f"network.{logits}", "output"),
        ]
        if pl_module.contrast is not None:
            self._hooks += [
                FeatureHook("losses", "output"),
                FeatureHook("contrast", "output"),
                FeatureHook("contrast", "input"),
            ]
        for hook in self._hooks:
            hook.attach(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for hook in self._hooks:
            hook.detach()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        measures = pl_module.contrast is not None and every and (batch_idx + 1) % every == 0
        for hook in self._hooks:
            hook.capturing = bool(measures)

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        if not self._hooks[0].capturing:
            return
        feature, logits, losses, contrast, target = (hook.take() for hook in self._hooks)
        for hook in self._hooks:
            hook.capturing = False
        pl_module.log("train/gradient_contrast", _gradient_norm(contrast.weighted, feature))
        on_logits = torch.stack([term.weighted for term in losses]).sum()
        pl_module.log("train/gradient_losses", _gradient_norm(on_logits, feature))
        assert isinstance(pl_module, SegmentationModule)
        assert pl_module.contrast is not None
        if isinstance(pl_module.contrast.loss, SelectiveLoss):
            grid = pl_module.contrast.subsample(feature.detach(), target)
            devices = [feature.device] if feature.is_cuda else []
            with torch.random.fork_rng(devices):  # random sampling draws from it
                selection = pl_module.contrast.loss.select(*prepare(grid, logits, target))
            used = len(selection.varying) + len(selection.constant)
            pl_module.log("train/contrast_used", used / grid[:, 0].numel())

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *at: int
    ) -> None:
        if any(at) or trainer.state.fn != "fit":
            return
        assert isinstance(pl_module, SegmentationModule)
        with trainer.precision_plugin.val_step_context():
            vectors, labels, predictions = self._look(pl_module, batch)
        for name, those in vectors.items():
            for key, value in cosines(those, labels, predictions).items():
                pl_module.log(f"val/{name}_{key}", value, batch_size=1, rank_zero_only=True)
        if not trainer.is_global_zero or self._folder is None:
            return
        shown = vectors.get("embedding", vectors["feature"]), labels, predictions
        arrays = (tensor.float().cpu().numpy() for tensor in shown)
        now = visualization.Embeddings(f"step {trainer.global_step}", *arrays)
        self._before = self._before or now
        data = trainer.datamodule  # type: ignore[attr-defined]
        figure = visualization.plot_embeddings(
            [self._before, now],
            class_names=pl_module.class_names,
            palette=data.palette if isinstance(data, SegmentationDataModule) else None,
            title="Embeddings" if "embedding" in vectors else "Features",
        )
        file = self._folder / "figures" / "embeddings.png"
        visualization.save_figure(figure, file)
        log_figure(trainer.loggers, file, logged_step(trainer))

    def _look(
        self, module: SegmentationModule, batch: Batch
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Run the network on some images, or on their first window where it sees windows.

        Returns (P, channels) vectors of labeled pixels by name, (P,) labels and predictions.
        """
        images = batch["image"][: self.num_images]
        target = resize_nearest(batch["mask"][: self.num_images], images.shape[-2:])
        window = module.scorer.inference.window
        if window is not None:
            images = images[..., : window[0], : window[1]]
            target = target[..., : window[0], : window[1]]
        classifier = self._hooks[:2]
        with capture(classifier):
            # Not by a call, which may be compiled for other sizes.
            module.network.forward(module.preprocessing(images))
        feature, logits = (hook.take() for hook in classifier)
        target = module.preprocessing.pad(target.long(), module.ignore_index)
        if module.contrast is not None:
            feature = module.contrast.subsample(feature, target)
        logits, labels = prepare(feature, logits, target)
        labeled = (labels.flatten() != module.ignore_index).nonzero()[:, 0]
        drawn = torch.randperm(len(labeled), generator=torch.Generator().manual_seed(0))
        at = labeled[drawn[: self.num_pixels].sort().values.to(labeled.device)]
        vectors = {"feature": take(feature, at)}
        if module.contrast is not None and module.contrast.projection is not None:
            project = module.contrast.projection.project_pixels
            vectors["embedding"] = project(vectors["feature"][:0], vectors["feature"])[1]
        return vectors, labels.flatten()[at], logits.argmax(1).flatten()[at]


def cosines(vectors: Tensor, labels: Tensor, predictions: Tensor) -> dict[str, Tensor]:
    """Compute the mean cosines of `ContrastDiagnostics` of (P, D) vectors and (P,) classes.

    Each is the mean over the pixels that have pixels to compare with, and left out if none has.
    """
    unit = F.normalize(vectors.float(), dim=1)
    right = predictions == labels
    classes = int(torch.cat([labels, predictions]).max()) + 1 if len(labels) else 0
    # The mean cosine with the pixels of a class is the product with the sum of their directions.
    total = unit.new_zeros(classes, unit.shape[1]).index_add_(0, labels[right], unit[right])
    count = labels[right].bincount(minlength=classes)
    own = (unit * total[labels]).sum(1)
    everywhere = unit @ total.sum(0)
    parts = {
        "right_within": (right, own - 1, count[labels] - 1),
        "right_between": (right, everywhere - own, count.sum() - count[labels]),
        "wrong_within": (~right, own, count[labels]),
        "wrong_between": (~right, (unit * total[predictions]).sum(1), count[predictions]),
    }
    means = {}
    for name, (among, similarity, others) in parts.items():
        among = among & (others > 0)
        if among.any():
            means[name] = (similarity[among] / others[among]).mean()
    return means


def _gradient_norm(loss: Tensor, feature: Tensor) -> Tensor:
    gradient = None
    if loss.requires_grad:  # not with a contrast of weight 0 as a constant, say
        (gradient,) = torch.autograd.grad(loss, feature, retain_graph=True, allow_unused=True)
    norm: Tensor = (feature.new_zeros(1) if gradient is None else gradient).float().norm()
    return norm
