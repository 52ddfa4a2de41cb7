"""What training requires of a network and of a batch, checked before the first step."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pne_seg.errors import UserError
from pne_seg.feature_hooks import DUMMY_SIZES, FeatureHook, dummy_forward


class BatchRequirements:
    """The sizes that a network accepts, and the smallest crop and batch it can be trained on.

    Batch normalization needs more than one value per channel. Networks that pool the whole image to
    one pixel (DeepLabV3's image pooling, UPerNet's pyramid) leave one value for each image; a dummy
    image finds them. `stride` is that of the coarsest feature.
    """

    def __init__(self, network: nn.Module, num_classes: int, stride: int) -> None:
        self.stride = stride
        image = FeatureHook("", "input")
        norms = [
            FeatureHook(name, "input")
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        try:
            for hook in (image, *norms):
                hook.attach(network)
            output = dummy_forward(network, [image, *norms])
            side = image.take().shape[-1]
            # Some are never reached: smp's PSPNet leaves the last stages of its encoder out.
            inputs = {hook.module_name: hook.take() for hook in norms if hook.has_captured}
        finally:
            for hook in (image, *norms):
                hook.detach()
        self._accepted = {(side, side)}
        # Most networks accept any size.
        self._limited = network if side != DUMMY_SIZES[0] else None
        kind = type(network).__name__
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ValueError(
                f"{kind} returns {type(output).__name__}, expected a (B, C, H, W) tensor of logits."
                " Wrap it in a module whose forward returns that."
            )
        if output.shape[1] != num_classes:
            raise ValueError(
                f"{kind} gives {output.shape[1]} classes, the data has {num_classes}. Build it for "
                "the data's number of classes."
            )
        self.has_norms = bool(inputs)
        pooled = (name for name, tensor in inputs.items() if tensor.shape[2:].numel() == 1)
        self.pooled_norm: str | None = next(pooled, None)

    def check(self, images: int, height: int, width: int) -> None:
        """Refuse a batch of crops that the network cannot be trained on.

        `images` counts those over which statistics are computed: of one device, or of all of them
        if batch normalization is synchronized.
        """
        self.check_size(height, width)
        if min(height, width) < self.stride or height == width == 1:
            least = max(self.stride, 2)
            raise ValueError(
                f"Training crops of {height}×{width} pixels are smaller than the network's stride "
                f"of {self.stride}: nothing would be left to learn from but padding. Use crops of "
                f"at least {least}×{least}."
            )
        values = images * -(-height // self.stride) * -(-width // self.stride)
        if self.has_norms and images == 1 and (self.pooled_norm is not None or values == 1):
            where = self.pooled_norm or "its coarsest feature"
            raise ValueError(
                "One image per device is too few to train this network: the batch normalization "
                f"{where} would see a single value per channel. Set batch_size to 2 or more, or "
                "train on several GPUs with sync_batchnorm=True."
            )

    def check_size(self, height: int, width: int) -> None:
        """Refuse images of a size that the network cannot compute, as vision transformers do."""
        size = (-(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride)
        if self._limited is None or size in self._accepted:
            return
        try:
            dummy_forward(self._limited, size=size)
        except ValueError as error:
            own = " or ".join(f"{height}×{width}" for height, width in sorted(self._accepted))
            raise UserError(
                f"{error}\n  It accepts {own}: train on crops and score in windows of that size "
                "(crop_size, inference.window), or use a network for any size, such as "
                "pne_seg.networks.DPT."
            ) from error
        self._accepted.add(size)
