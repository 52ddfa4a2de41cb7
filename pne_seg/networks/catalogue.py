"""Which methods and encoders go together, with the numbers of each pair."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pne_seg.feature_hooks import FeatureHook, capture, dummy_forward, find_classifier
from pne_seg.inference import network_stride
from pne_seg.networks.auxiliary import FCNHead

ENCODERS = (
    "tu-resnet101c.gluon_in1k",
    "tu-hrnet_w18.ms_in1k",
    "tu-hrnet_w48.ms_in1k",
    "tu-swin_tiny_patch4_window7_224.ms_in1k",
    "tu-swin_small_patch4_window7_224.ms_in1k",
    "tu-swin_base_patch4_window7_224.ms_in1k",
)
"""The encoders of the published baselines, with the tag of their pretrained weights in timm."""

SHIPPED = {
    ("DeepLabV3", "tu-resnet101c.gluon_in1k"): "deeplabv3_resnet101",
    ("HRNetV2", "tu-hrnet_w48.ms_in1k"): "hrnetv2_hrnet48",
    ("OCRNet", "tu-hrnet_w48.ms_in1k"): "ocrnet_hrnet48",
    ("UPerNet", "tu-resnet101c.gluon_in1k"): "upernet_resnet101",
    ("UPerNet", "tu-swin_tiny_patch4_window7_224.ms_in1k"): "upernet_swin",
    ("UPerNet", "tu-swin_base_patch4_window12_384.ms_in22k"): "upernet_swin_base",
    ("UPerNet", "tu-convnext_tiny.fb_in1k"): "upernet_convnext",
}
"""What follows the data set in the name of a shipped config that trains a pair."""

_RESNETS = re.compile(r"(?<!inception)(?<!inception_)resne[stx]")


@dataclass(frozen=True)
class NetworkConfig:
    """The entry `model.network` of a config.

    Attributes:
        class_path: the network's class.
        init_args: its settings, `encoder_name` first; the number of classes comes from the data.
    """

    class_path: str
    init_args: Mapping[str, Any]

    def build(
        self, classes: int, encoder_weights: str | None = None, **encoder_settings: Any
    ) -> nn.Module:
        """Build the network.

        Args:
            classes: number of classes.
            encoder_weights: `"imagenet"`, or None for random weights.
            **encoder_settings: keywords for timm's encoder.

        Raises:
            Exception: any that the network, smp or timm raise for an encoder that does not fit.
        """
        module, _, name = self.class_path.rpartition(".")
        network: nn.Module = getattr(import_module(module), name)(
            **{**self.init_args, **encoder_settings},
            encoder_weights=encoder_weights,
            classes=classes,
        )
        return network


@dataclass(frozen=True)
class Method:
    """A segmentation method.

    Attributes:
        name: as in the literature.
        class_path: the class that builds it.
        init_args: settings of the published method, without the encoder's.
        fcn_head: whether the published training adds an FCN head on an encoder stage.
    """

    name: str
    class_path: str
    init_args: Mapping[str, Any] = field(default_factory=dict)
    fcn_head: bool = False

    def config(self, encoder: str) -> NetworkConfig:
        """Return the settings of this method on an encoder, any of smp's or timm's."""
        init_args = {"encoder_name": encoder, **self.init_args}
        if self.name == "OCRNet" and _RESNETS.search(encoder):
            init_args["encoder_output_stride"] = 8  # as published; others keep the joined stages
        return NetworkConfig(self.class_path, init_args)


METHODS = (
    Method("DeepLabV3", "pne_seg.networks.DeepLabV3", fcn_head=True),
    Method("HRNetV2", "pne_seg.networks.HRNetV2"),
    Method("OCRNet", "pne_seg.networks.OCRNet"),
    Method("UPerNet", "pne_seg.networks.UPerNet", fcn_head=True),
)
"""The methods of the paper's experiments."""


@dataclass(frozen=True)
class Fit:
    """A method and an encoder that go together.

    Attributes:
        method: the method's name.
        encoder: the encoder's name.
        config: how a config writes the pair.
        parameters: of the network only, which is what is deployed.
        auxiliary_parameters: of the FCN head that trains beside it; 0 if there is none.
        divisor: pixels that must divide both sides of an image.
        smallest: side in pixels of the smallest dummy image that the network accepts. More than 64
            means that it accepts few sizes, as transformers of a fixed size.
        feature_channels: of the feature that enters the classifier, which the contrast projects.
        feature_stride: of that feature, in image pixels.
        output_stride: of the logits that the network returns, in image pixels.
    """

    method: str
    encoder: str
    config: NetworkConfig
    parameters: int
    auxiliary_parameters: int
    divisor: int
    smallest: int
    feature_channels: int
    feature_stride: int
    output_stride: int


@dataclass(frozen=True)
class Misfit:
    """A method and an encoder that do not go together.

    Attributes:
        method: the method's name.
        encoder: the encoder's name.
        reason: why, in a line.
    """

    method: str
    encoder: str
    reason: str


def describe(method: Method, encoder: str, classes: int) -> Fit | Misfit:
    """Build a method on an encoder on the meta device, and collect its numbers.

    Args:
        method: one of `METHODS`.
        encoder: smp's name, or timm's after `tu-`.
        classes: number of classes.

    Raises:
        ValueError: neither smp nor timm has an encoder of that name; the message gives the nearest.
    """
    check_encoder(encoder)
    config = method.config(encoder)
    # Encoders of two libraries raise any exception. The shipped pairs are tested, so that this
    # cannot hide a mistake here.
    try:
        return _measure(method, encoder, config, build_blank(config, classes), classes)
    except Exception as error:
        return Misfit(method.name, encoder, _reason(error))


def check_encoder(name: str) -> None:
    """Refuse the name of an encoder that does not exist.

    Raises:
        ValueError: neither smp nor timm has an encoder of that name; the message gives the nearest.
    """
    # A tag after a dot selects among timm's pretrained weights.
    base, _, tag = name.removeprefix("tu-").partition(".")
    if not base:
        candidates = []
    elif name.startswith("tu-"):
        known, tags = timm.list_models(), timm.list_pretrained(f"{base}.*")
        if base in known and (not tag or f"{base}.{tag}" in tags):
            return
        candidates = [f"tu-{model}" for model in (tags if base in known else known)]
    elif name in smp.encoders.encoders:
        return
    else:
        candidates = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    raise ValueError(
        f"encoder_name {name}: no encoder of that name."
        + (f"\n  The nearest is {near[0]}." if near else "")
    )


class _Blank(TorchFunctionMode):
    """Skip weight initialization, which only takes time on the meta device."""

    _IN_PLACE = frozenset(
        f"{name}_"
        for name in ("add", "clamp", "erfinv", "fill", "mul", "normal", "uniform", "zero")
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in self._IN_PLACE and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def build_blank(config: NetworkConfig, classes: int) -> nn.Module:
    """Build a network on the meta device, or on the CPU if the encoder needs it."""
    try:
        with torch.device("meta"), _Blank():
            return config.build(classes)
    except RuntimeError as error:
        if "meta tensor" not in str(error):
            raise
    return config.build(classes)  # smp's MiT computes its rates of drop-path by tensors


def _measure(
    method: Method, encoder: str, config: NetworkConfig, network: nn.Module, classes: int
) -> Fit:
    hooks = [
        FeatureHook("", "input"),
        FeatureHook(find_classifier(network).feature, "input"),
        FeatureHook("", "output"),
    ]
    auxiliary = 0
    for hook in hooks:
        hook.attach(network)
    if method.fcn_head:
        head = FCNHead()
        with capture(hooks):  # one dummy image for both
            head.attach(network, classes, ignore_index=255)
        head.detach()
        auxiliary = _count(head)
    else:
        dummy_forward(network, hooks)
    image, feature, logits = (_take_map(hook) for hook in hooks)
    for hook in hooks:
        hook.detach()
    if logits.shape[1] != classes:
        raise ValueError(f"gives {logits.shape[1]} channels for {classes} classes")
    side = image.shape[-1]
    return Fit(
        method=method.name,
        encoder=encoder,
        config=config,
        parameters=_count(network),
        auxiliary_parameters=auxiliary,
        divisor=network_stride(network),
        smallest=side,
        feature_channels=feature.shape[1],
        feature_stride=side // feature.shape[-1],
        output_stride=side // logits.shape[-1],
    )


def _take_map(hook: FeatureHook) -> Tensor:
    captured = hook.take()
    if not isinstance(captured, Tensor) or captured.ndim != 4:
        raise ValueError("has no (B, channels, h, w) tensor at its classifier")
    return captured


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _reason(error: Exception) -> str:
    """Shorten an exception to a line; the most common one, no dilation, to a few words."""
    message = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if stride := re.search(r"cannot be built at output stride (\d+)", message):
        return f"the encoder cannot be dilated to output stride {stride[1]}"
    return message if len(message) <= 160 else f"{message[:159]}…"
