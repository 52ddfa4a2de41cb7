"""Plain NumPy versions of the layers, in double precision, that share no code with PyTorch's."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]


def array(tensor: Tensor | None) -> Array:
    """A tensor's values, in double precision."""
    assert tensor is not None
    return tensor.detach().double().numpy()


def randomize(module: nn.Module) -> None:
    """Give norms and biases values that a wrong use of them would betray."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 1.0)
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 2.0)
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias.uniform_(-0.5, 0.5)


def convolve(x: Array, layer: nn.Module) -> Array:
    """Convolution as a sum over the kernel's taps; the border is zero and keeps the size."""
    assert isinstance(layer, nn.Conv2d)
    weight, dilation = array(layer.weight), layer.dilation[0]
    side = weight.shape[-1]
    reach = dilation * (side // 2)
    height, width = x.shape[-2:]
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(side):
        for j in range(side):
            top, left = i * dilation, j * dilation
            window = padded[..., top : top + height, left : left + width]
            out += np.einsum("oc,bchw->bohw", weight[..., i, j], window)
    if layer.bias is not None:
        out += array(layer.bias)[:, None, None]
    return out


def conv_bn_relu(x: Array, layers: nn.Module, training: bool) -> Array:
    """Convolution, batch norm by the batch's or the stored statistics, ReLU."""
    conv, norm = list(layers.children())[:2]
    assert isinstance(norm, nn.BatchNorm2d)
    assert cast(nn.Conv2d, conv).bias is None
    x = convolve(x, conv)
    mean = x.mean((0, 2, 3)) if training else array(norm.running_mean)
    if training:
        variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
    else:
        variance = array(norm.running_var)
    slope = array(norm.weight) / np.sqrt(variance + norm.eps)
    shift = array(norm.bias) - mean * slope
    out: Array = np.maximum(x * slope[:, None, None] + shift[:, None, None], 0)
    return out


def resize(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear: pixels are squares with values at their centers; the border's go on outwards."""
    rows, columns = (_interpolation(n, m) for n, m in zip(x.shape[-2:], size, strict=True))
    resized: Array = np.einsum("yh,bchw,xw->bcyx", rows, x, columns)
    return resized


def softmax(x: Array) -> Array:
    """Over a vector."""
    powers = np.exp(x - x.max())
    result: Array = powers / powers.sum()
    return result


def _interpolation(source: int, target: int) -> Array:
    weights = np.zeros((target, source))
    for i in range(target):
        position = (i + 0.5) * source / target - 0.5
        before = int(np.floor(position))
        share = position - before
        weights[i, min(max(before, 0), source - 1)] += 1 - share
        weights[i, min(max(before + 1, 0), source - 1)] += share
    return weights


def assert_same(found: Tensor, expected: Array) -> None:
    """Equal to PyTorch's tolerance for double precision, and not merely zero."""
    assert found.dtype == torch.float64
    assert np.abs(expected).max() > 0.1
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected))
