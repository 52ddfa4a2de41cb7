"""What a training requires of a network, and a network of a batch, told before the first step."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pne_seg.taps import Tap, probe


def check_output(network: nn.Module, num_classes: int) -> None:
    """Refuse a network whose output is not class scores.

    Args:
        network: should be (B, 3, H, W) → (B, C, h, w); a small image is sent through it.
        num_classes: C.

    Raises:
        ValueError: the output is no such tensor.
    """
    output = probe(network)
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise ValueError(
            f"{type(network).__name__} returns {type(output).__name__} where a (B, C, H, W) tensor "
            "of class scores is due. Wrap it in a module whose forward returns that tensor."
        )
    if output.shape[1] != num_classes:
        raise ValueError(
            f"{type(network).__name__} gives {output.shape[1]} classes, the data has "
            f"{num_classes}. Build it for the data's number of classes."
        )


class BatchRequirements:
    """The smallest crop and batch that a network can be trained on.

    Batch normalisation needs more than one value a channel. Networks that pool the whole image to
    one pixel (DeepLabV3's image pooling, UPerNet's pyramid) leave one value for each image.

    Args:
        network: (B, 3, H, W) → (B, C, h, w); a small image is sent through it.
        stride: pixels of the image that its coarsest feature has one value for.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        self.stride = stride
        norms = [
            Tap(name, "input")
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        self.pooled_norm: str | None = None
        try:
            for tap in norms:
                tap.attach(network)
            probe(network, norms)
            # Some are never reached: smp's PSPNet leaves the last stages of its encoder out.
            reached = {tap.module_name: tap.take() for tap in norms if tap.holds}
            self.has_norms = bool(reached)
            for name, tensor in reached.items():
                if tensor.shape[2:].numel() == 1:
                    self.pooled_norm = self.pooled_norm or name
        finally:
            for tap in norms:
                tap.detach()

    def check(self, images: int, height: int, width: int) -> None:
        """Refuse a batch that the network cannot be trained on.

        Args:
            images: images a step over which the statistics are taken: those of one device, or of
                all of them where batch normalisation is synchronised.
            height: of the crop, in pixels.
            width: of the crop, in pixels.

        Raises:
            ValueError: the crop is smaller than the stride, or batch normalisation is left with a
                single value a channel; the message says how to mend it.
        """
        if min(height, width) < self.stride or height == width == 1:
            least = max(self.stride, 2)
            raise ValueError(
                f"Training crops of {height}×{width} pixels are smaller than the network's stride "
                f"of {self.stride}: nothing would be left to learn from but padding. Use crops of "
                f"at least {least}×{least}."
            )
        values = images * -(-height // self.stride) * -(-width // self.stride)
        if not self.has_norms or (self.pooled_norm is None and values > 1):
            return
        if images == 1:
            where = self.pooled_norm or "its coarsest feature"
            raise ValueError(
                "One image a device is too few to train this network: the batch normalisation "
                f"{where} would see a single value a channel. Set --data.batch_size 2 or more, or "
                "train on several GPUs with --trainer.sync_batchnorm true."
            )
