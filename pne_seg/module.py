"""`SegmentationModule`: the training, validation, test and prediction steps, and nothing else."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from pne_seg.boundaries import BoundaryConfusion, BoundaryMetrics
from pne_seg.contrast.component import Contrast
from pne_seg.description import too_few_classes
from pne_seg.feature_hooks import ClassifierDropout, FeatureHook, capture
from pne_seg.inference import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    WHOLE_IMAGES,
    Evaluation,
    Inference,
    Predictor,
    Preprocessing,
    network_stride,
    resize_logits,
)
from pne_seg.losses import CrossEntropy
from pne_seg.metrics import ConfusionMatrix, SegmentationMetrics
from pne_seg.networks.auxiliary import Auxiliary, untrained_logits
from pne_seg.networks.requirements import BatchRequirements
from pne_seg.optim import ParameterGroups
from pne_seg.resume import ResumableModule
from pne_seg.training_loss import (
    LogitLosses,
    TrainingTerm,
    reconcile_training_terms,
    weigh_classes,
)
from pne_seg.weight_loading import initialize_from

Batch = dict[str, Any]  # image (B, 3, H, W) uint8, mask (B, H, W) integers, name


class SegmentationModule(ResumableModule):
    """Train a segmentation network with a pixel-wise loss and further training-only terms.

    Args:
        network: (B, 3, H, W) normalized images → (B, C, H, W) logits (a smaller map is resized).
        num_classes: C; on the command line it comes from the data.
        ignore_index: the label that carries no class; from the data, too.
        class_names: C names, for logging; from the data, too. Numbers by default.
        loss: called `loss(logits, target)`, (B, C, H, W) and (B, H, W); by default `CrossEntropy`.
        extra_losses: further losses on the logits, logged by name, such as smp's `DiceLoss`.
        extra_loss_weights: their weights in the total; 1 by default.
        contrast: pixel-contrastive loss on the feature that enters the classifier, or none.
        auxiliary: a further training-only loss, such as an FCN head on an encoder stage, or none.
        dropout: share of the channels that enter the classifier dropped in training.
        optimizer: from parameters to optimizer; AdamW with PyTorch's defaults by default.
        parameter_groups: which parameters decay, and the learning rate of the heads.
        schedule: from optimizer to learning-rate schedule, stepped after each optimizer step.
        mean: RGB mean of the images in 0–255.
        std: RGB standard deviation in 0–255.
        init_from: weights to start from, as far as they fit: a file, folder, hub or web address.
        compile: whether to train and evaluate through `torch.compile`.
        inference: how images are shown to the network in validation, test and prediction.
        boundary_widths: distances to class borders in pixels within which a test computes mIoU.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        ignore_index: int = 255,
        class_names: Sequence[str] | None = None,
        loss: nn.Module | None = None,
        extra_losses: dict[str, nn.Module] | None = None,
        extra_loss_weights: dict[str, float] | None = None,
        contrast: Contrast | None = None,
        auxiliary: TrainingTerm | None = None,
        dropout: float = 0.0,
        optimizer: OptimizerCallable | None = None,
        parameter_groups: ParameterGroups | None = None,
        schedule: LRSchedulerCallable | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        init_from: str | None = None,
        compile: bool = False,  # as PyTorch calls it
        inference: Inference | None = WHOLE_IMAGES,
        boundary_widths: tuple[int, ...] = (1, 3, 5, 9),
    ) -> None:
        super().__init__()
        if problem := too_few_classes(num_classes):
            raise ValueError(problem)
        self.network = network
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.class_names = list(class_names or map(str, range(num_classes)))
        if len(self.class_names) != num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {num_classes} classes.")
        # None, because the command line would let settings of a default class (AdamW's weight
        # decay) slip into the class that takes its place.
        self.optimizer = optimizer or torch.optim.AdamW
        self.parameter_groups = parameter_groups or ParameterGroups()
        self.schedule = schedule
        main = loss or CrossEntropy()
        self.losses = LogitLosses(main, extra_losses, extra_loss_weights, num_classes, ignore_index)
        self.preprocessing = Preprocessing(mean, std, network_stride(network))
        self.scorer = Predictor(network, self.preprocessing, inference or WHOLE_IMAGES)
        self.requirements = BatchRequirements(
            network, num_classes, self.preprocessing.stride, isinstance(main, nn.NLLLoss)
        )
        self.contrast = contrast
        self.auxiliary = auxiliary
        if isinstance(auxiliary, Contrast):
            kind = type(auxiliary).__name__
            raise ValueError(f"{kind} is a contrast: give it as 'contrast', not 'auxiliary'.")
        if isinstance(auxiliary, Auxiliary) and auxiliary.loss is None:
            auxiliary.loss = main
        if warning := untrained_logits(network, auxiliary):
            rank_zero_warn(warning)
        for term in self.terms:
            term.attach(network, num_classes, ignore_index)
        self.dropout = ClassifierDropout(dropout)
        self.dropout.attach(network)
        self.compile_network = compile
        self.confusion = ConfusionMatrix(num_classes, ignore_index)
        self.metrics: SegmentationMetrics | None = None
        self.boundary = BoundaryConfusion(num_classes, ignore_index, boundary_widths)
        self.boundary_metrics: BoundaryMetrics | None = None
        self.log_probabilities = False  # whether a test's evaluations have them, for a callback
        self.scored: Evaluation | None = None  # of the latest batch that was tested
        self.register_load_state_dict_pre_hook(reconcile_training_terms)  # type: ignore[no-untyped-call]
        if init_from is not None:
            rank_zero_info(str(initialize_from(self, init_from)))

    @property
    def terms(self) -> list[TrainingTerm]:
        """The loss terms on tensors from inside the network."""
        return [term for term in (self.auxiliary, self.contrast) if term is not None]

    @property
    def hooks(self) -> list[FeatureHook]:
        """The feature hooks of the terms."""
        return [hook for term in self.terms for hook in term.hooks]

    def setup(self, stage: str) -> None:
        """Attach hooks to the network for training; leave it bare for everything else."""
        self.teardown(stage)
        if stage == "fit":
            for hook in (*self.hooks, self.dropout):
                hook.attach(self.network)
        if self.compile_network:
            self.network.compile()
            self.scorer.compile()

    def teardown(self, stage: str) -> None:
        """Leave the network bare, whatever it is used for next."""
        for hook in (*self.hooks, self.dropout):
            hook.detach()

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, C, H, W) logits of (B, 3, H, W) images in 0–255, see `Predictor.logits`."""
        return self.scorer.logits(images)

    def on_fit_start(self) -> None:
        """Weigh the classes by the training labels where a loss asks for it."""
        data = getattr(self.trainer, "datamodule", None)
        if line := weigh_classes(self, data, self.class_names):
            rank_zero_info(line)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Refuse a batch that the network cannot be trained on, by the first one's size."""
        if not batch_idx:
            images, _, height, width = batch["image"].shape
            if any(isinstance(layer, nn.SyncBatchNorm) for layer in self.network.modules()):
                images *= self.trainer.world_size
            self.requirements.check(images, height, width)

    def on_validation_batch_start(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Refuse images of a size that the network cannot compute, by those of the first batch."""
        if not batch_idx and len(batch["image"]):
            size, window = batch["image"].shape[-2:], self.scorer.inference.window
            self.requirements.check_size(*map(min, size, window or size))

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum the losses and the weighted terms; each is logged unweighted by its name."""
        # Labels are padded along with the images: every map inside the network stays aligned.
        target = self.preprocessing.pad(batch["mask"].long(), self.ignore_index)
        with capture(self.hooks):
            logits = self.network(self.preprocessing(batch["image"]))
        logits = resize_logits(logits, target.shape[-2:])
        # The losses see only the image: a mean over all pixels must not count the padding.
        height, width = size = batch["mask"].shape[-2:]
        terms = self.losses(logits[..., :height, :width], target[..., :height, :width])
        terms += [term(target, self.global_step, size) for term in self.terms]
        total = torch.stack([term.weighted for term in terms]).sum()
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(target))
        for term in terms:
            for name, value in {f"loss_{term.name}": term.value, **term.statistics}.items():
                self.log(f"train/{name}", value.detach().float(), batch_size=len(target))
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count the batch and return the (B, H, W) predicted class indices."""
        return self._evaluate(batch, "val").classes

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count the batch, near the borders too, and return the predicted class indices."""
        self.scored = self._evaluate(batch, "test", self.log_probabilities)
        self.boundary.update(self.scored.classes, batch["mask"])
        return self.scored.classes

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return (B, H, W) class indices, at the files' own size if it is the same for all."""
        if not len(batch["image"]):  # none of its files could be read
            return torch.empty(0, 1, 1, dtype=torch.long)
        sizes = {tuple(size) for size in batch.get("source_size", ())}
        return self.scorer.classes(batch["image"], sizes.pop() if len(sizes) == 1 else None)

    def _evaluate(self, batch: Batch, stage: str, log_probabilities: bool = False) -> Evaluation:
        target = batch["mask"].long()
        scored = self.scorer.evaluate(batch["image"], target, self.ignore_index, log_probabilities)
        loss = (scored.loss / scored.pixels.clamp(min=1)).float()
        self.log(f"{stage}/loss", loss, batch_size=len(target), sync_dist=True)
        self.confusion.update(scored.classes, target)
        return scored

    def on_validation_epoch_end(self) -> None:
        """Compute the split's metrics and log them."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Compute the split's metrics, near the borders too, and log them."""
        self.scored = None
        if self.boundary.widths:
            self.boundary_metrics = self.boundary.metrics()
            self.log_dict(self.boundary_metrics.as_dict("test"), sync_dist=True)
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        self.metrics = SegmentationMetrics.from_matrix(self.confusion.compute())
        with torch.inference_mode(False):  # a later training could not count into what it makes
            self.confusion.reset()
            self.boundary.reset()
        named = self.metrics.as_dict(stage, self.class_names)
        self.log(f"{stage}/mIoU", named.pop(f"{stage}/mIoU"), prog_bar=True, sync_dist=True)
        self.log_dict(named, sync_dist=True)
