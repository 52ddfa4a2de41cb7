"""The head that the networks here share."""

from collections.abc import Callable

from segmentation_models_pytorch.base import heads
from torch import nn


class SegmentationHead(heads.SegmentationHead):  # type: ignore[misc]  # smp is untyped
    """smp's head with a 1×1 convolution, whose upsampling does not align corners, as published."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        upsampling: int = 1,
        activation: str | Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__(in_channels, classes, kernel_size=1, activation=activation)
        if upsampling > 1:
            self[1] = nn.Upsample(scale_factor=upsampling, mode="bilinear", align_corners=False)
