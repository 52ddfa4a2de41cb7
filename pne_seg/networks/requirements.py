"""What training requires of a network and of a batch, checked before the first step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pne_seg.dummy_graph import last_activation
from pne_seg.errors import UserError
from pne_seg.feature_hooks import DUMMY_SIZES, FeatureHook, dummy_forward

_WITHOUT_ACTIVATION = (
    "Leave the network's last activation out: `activation` of smp's networks, a last nn.Softmax, "
    "or the call in its forward."
)


def _check_output(output: Any, kind: str, num_classes: int, log_probabilities: bool) -> None:
    """Refuse a network by what it returns of noise, unless these are (B, C, H, W) logits."""
    if isinstance(output, Tensor) and not output.is_floating_point():
        raise ValueError(
            f"{kind} returns whole numbers of shape {tuple(output.shape)}, as after an argmax; "
            f"expected (B, C, H, W) logits. {_WITHOUT_ACTIVATION}"
        )
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
    activation = _final_activation(output)
    are_log_probabilities = activation is not None and activation.startswith("log")
    if log_probabilities and activation is None:
        raise ValueError(
            f"NLLLoss expects log-probabilities, but {kind} returns logits. Use CrossEntropy, "
            "which takes logits."
        )
    if activation is not None and not (log_probabilities and are_log_probabilities):
        raise ValueError(
            f"{kind} ends in {activation}; expected logits, of any sign and size. Losses and "
            f"inference apply softmax themselves. {_WITHOUT_ACTIVATION}"
        )


def _final_activation(output: Tensor) -> str | None:
    """Name the activation that gives the (B, C, H, W) output of noise, None if it is logits."""
    if found := last_activation(output):
        return found
    if output.shape[1] == 1:
        return None
    if output.logsumexp(1).abs().max() < 1e-4:
        return "log-probabilities"
    # Of more than one softmax, such as their mean.
    total = output.sum(1)
    if (output >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        return "probabilities (0 or more, with the sum 1 over the classes)"
    return None


class BatchRequirements:
    """The sizes that a network accepts, and the smallest crop and batch it can be trained on.

    Batch normalization needs more than one value per channel. Networks that pool the whole image to
    one pixel (DeepLabV3's image pooling, UPerNet's pyramid) leave one value for each image; a dummy
    image finds them. `stride` is that of the coarsest feature.

    The network must return logits, or log-probabilities for `nn.NLLLoss` (`log_probabilities`).
    """

    def __init__(
        self, network: nn.Module, num_classes: int, stride: int, log_probabilities: bool = False
    ) -> None:
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
            output = dummy_forward(network, [image, *norms], with_graph=True)
            side = image.take().shape[-1]
            # Some are never reached: smp's PSPNet leaves the last stages of its encoder out.
            inputs = {hook.module_name: hook.take() for hook in norms if hook.has_captured}
        finally:
            for hook in (image, *norms):
                hook.detach()
        self._accepted = {(side, side)}
        # Most networks accept any size.
        self._limited = network if side != DUMMY_SIZES[0] else None
        _check_output(output, type(network).__name__, num_classes, log_probabilities)
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
