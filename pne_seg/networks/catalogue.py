"""Which methods and encoders go together, and which pair weights are of."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pne_seg.feature_hooks import FeatureHook, capture, dummy_forward, find_classifier
from pne_seg.inference import network_stride
from pne_seg.networks.auxiliary import FCNHead
from pne_seg.networks.deeplabv3 import DeepLabV3
from pne_seg.networks.hrnet import HRNetV2, OCRNet
from pne_seg.networks.library_networks import UPerNet
from pne_seg.shipped_configs import shipped_configs

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

_DATA = {19: "cityscapes", 150: "ade20k", 171: "coco_stuff"}  # by the number of classes
_RESNETS = re.compile(r"(?<!inception)(?<!inception_)resne[stx]")


@dataclass(frozen=True)
class Method:
    """A segmentation method, by the class of its network."""

    network: type[Any]
    fcn_head: bool = False  # whether the published training adds one on an encoder stage

    @property
    def name(self) -> str:
        """The method's name, that of its class."""
        return self.network.__name__

    @property
    def class_path(self) -> str:
        """The network's class as a config names it."""
        return f"pne_seg.networks.{self.name}"

    def init_args(self, encoder: str) -> dict[str, Any]:
        """Return the network's settings as a config names them, without the classes."""
        if self.network is OCRNet and _RESNETS.search(encoder):
            return {"encoder_name": encoder, "encoder_output_stride": 8}  # as published
        return {"encoder_name": encoder}

    def build(self, encoder: str, classes: int, **settings: Any) -> nn.Module:
        """Build the network, with random weights unless `encoder_weights` is given."""
        network: nn.Module = self.network(
            **({"encoder_weights": None} | self.init_args(encoder) | settings), classes=classes
        )
        return network


METHODS = (
    Method(DeepLabV3, fcn_head=True),
    Method(HRNetV2),
    Method(OCRNet),
    Method(UPerNet, fcn_head=True),
)
"""The methods of the paper's experiments."""


@dataclass(frozen=True)
class Fit:
    """A method and an encoder that go together, with their numbers; strides in image pixels."""

    method: Method
    encoder: str
    parameters: int  # of the network only, which is what is deployed
    auxiliary_parameters: int  # of the FCN head that trains beside it; 0 if there is none
    divisor: int  # of both sides of an image
    smallest: int  # side of the smallest dummy image accepted; above 64, few sizes are
    feature_channels: int  # of the feature that enters the classifier and is projected
    feature_stride: int
    output_stride: int


@dataclass(frozen=True)
class Misfit:
    """A method and an encoder that do not go together, and the reason in a line."""

    method: Method
    encoder: str
    reason: str


def describe(method: Method, encoder: str, classes: int) -> Fit | Misfit:
    """Build a method on an encoder on the meta device, and collect its numbers."""
    check_encoder(encoder)
    # Encoders of two libraries raise any exception. The shipped pairs are tested, so that this
    # cannot hide a mistake here.
    try:
        return _measure(method, encoder, _build_blank(method, encoder, classes), classes)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if stride := re.search(r"cannot be built at output stride (\d+)", reason):
            reason = f"the encoder cannot be dilated to output stride {stride[1]}"
        return Misfit(method, encoder, reason if len(reason) <= 160 else f"{reason[:159]}…")


def check_encoder(name: str) -> None:
    """Raise a ValueError that names the nearest encoder if neither smp nor timm has this one."""
    # A tag after a dot selects among timm's pretrained weights.
    base, _, tag = name.removeprefix("tu-").partition(".")
    candidates: list[str] = []
    if name.startswith("tu-") and base:
        known, tags = timm.list_models(), timm.list_pretrained(f"{base}.*")
        if base in known and (not tag or f"{base}.{tag}" in tags):
            return
        candidates = [f"tu-{model}" for model in (tags if base in known else known)]
    elif name in smp.encoders.encoders:
        return
    elif base:
        candidates = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    raise ValueError(
        f"encoder_name {name}: no encoder of that name."
        + (f"\n  The nearest is {near[0]}." if near else "")
    )


class _Blank(TorchFunctionMode):
    """Skip weight initialization, which takes half of the time on the meta device."""

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
        if getattr(func, "__name__", "") in self._IN_PLACE and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _build_blank(method: Method, encoder: str, classes: int) -> nn.Module:
    """Build a network on the meta device, or on the CPU if the encoder needs it."""
    try:
        with torch.device("meta"), _Blank():
            return method.build(encoder, classes)
    except RuntimeError:  # smp's MiT computes its rates of drop-path by tensors
        return method.build(encoder, classes)


def _measure(method: Method, encoder: str, network: nn.Module, classes: int) -> Fit:
    hooks = [
        FeatureHook("", "input"),
        FeatureHook(find_classifier(network).feature, "input"),
        FeatureHook("", "output"),
    ]
    for hook in hooks:
        hook.attach(network)
    head = FCNHead() if method.fcn_head else None
    with capture(hooks):
        if head is None:
            dummy_forward(network)
        else:
            head.attach(network, classes, ignore_index=255)  # passes its own dummy image
            head.detach()
    image, feature, logits = (hook.take() for hook in hooks)
    for hook in hooks:
        hook.detach()
    side = image.shape[-1]
    return Fit(
        method=method,
        encoder=encoder,
        parameters=_count(network),
        auxiliary_parameters=_count(head) if head else 0,
        divisor=network_stride(network),
        smallest=side,
        feature_channels=feature.shape[1],
        feature_stride=side // feature.shape[-1],
        output_stride=side // logits.shape[-1],
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """Describe which published network a state dict is of and what to use for it, if any."""
    shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_floating_point()}
    if "segmentation_head.0.weight" not in shapes:
        return None
    classes = shapes["segmentation_head.0.weight"][0]

    def likeness(method: Method, encoder: str, part: str = "") -> float:
        """Compute the share of tensors that agree in name and shape."""
        try:
            state = _build_blank(method, encoder, classes).state_dict()
        except Exception:  # the method cannot be built on the encoder
            return 0.0
        learned = {name: t.shape for name, t in state.items() if t.is_floating_point()}
        ours = {item for item in learned.items() if item[0].startswith(part)}
        theirs = {item for item in shapes.items() if item[0].startswith(part)}
        names = {name for name, _ in ours | theirs}
        return len(ours & theirs) / max(len(names), 1)

    # The encoder by the method that goes with all of them, then the method on that encoder.
    further = ["tu-resnet50c", "resnet18", "resnet34", "resnet50"]
    encoders = dict.fromkeys([*ENCODERS, *(encoder for _, encoder in SHIPPED), *further])
    upernet = METHODS[-1]
    encoder = max(encoders, key=lambda name: likeness(upernet, name, "encoder."))
    method = max(METHODS, key=lambda method: likeness(method, encoder))
    if likeness(method, encoder) < 0.9:
        return None
    description = f"This is {method.name} on {encoder} with {classes} classes"
    if (method.name, encoder) in SHIPPED and classes in _DATA:
        config = f"{_DATA[classes]}_{SHIPPED[method.name, encoder]}"
        if config in shipped_configs():
            return f"{description}: use configs/{config}.yaml."
    return (
        f"{description}: set model.network to {method.class_path} with encoder_name "
        f"{encoder}, and use data of that many classes."
    )
