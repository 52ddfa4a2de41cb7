"""Which parameters decay and at what rate, against enumerations by name and single steps."""

import functools
from collections.abc import Iterable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import timm.layers
import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, Rprop

from pne_seg.errors import UserError
from pne_seg.optim import ParameterGroups, WarmupPoly, build_optimizer
from pne_seg.resume import apply_changed_settings, optimizer_settings


class Attention(nn.Module):
    """Holds a table of position biases, as Swin's window attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.ones(9, 2))
        self.qkv = nn.Linear(4, 12)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 4))
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.ln = nn.LayerNorm(4)
        self.attention = Attention()


class Network(nn.Module):
    def __init__(self, encoder: str = "encoder") -> None:
        super().__init__()
        self.add_module(encoder, Encoder())
        self.decoder = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))
        self.segmentation_head = nn.Conv2d(4, 3, 1)


class Training(nn.Module):
    """The parts of a training module that groups look at."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network or Network()
        self.contrast = nn.Linear(4, 2)


NORMS = {"network.encoder.bn", "network.encoder.ln", "network.decoder.1"}
LAYERS: Any = timm.layers  # untyped in part
POSITIONS = {"pos_embed", "relative_position_bias_table"}


def names_in(module: nn.Module, group: dict[str, Any]) -> list[str]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


def built(groups: ParameterGroups, module: nn.Module) -> list[dict[str, Any]]:
    result = groups.build(module)
    assert isinstance(result, list)
    return result


def sgd(parameters: Iterable[Any]) -> Optimizer:
    return SGD(parameters, lr=0.1, weight_decay=0.5)


def test_the_defaults_are_one_group_of_all_parameters() -> None:
    module = Training()
    module.network.segmentation_head.requires_grad_(False)
    expected = list(module.parameters())
    assert [*map(id, ParameterGroups().build(module))] == [*map(id, expected)]
    optimizer = build_optimizer(module, sgd, ParameterGroups())
    plain = sgd(module.parameters())
    assert optimizer.state_dict() == plain.state_dict()
    assert [*map(id, optimizer.param_groups[0]["params"])] == [*map(id, expected)]


@pytest.mark.parametrize("decay_norms", [True, False])
@pytest.mark.parametrize("decay_position_biases", [True, False])
@pytest.mark.parametrize("decay_biases", [True, False])
@pytest.mark.parametrize("head_lr", [1.0, 10.0])
def test_every_parameter_is_where_its_name_says(
    decay_norms: bool, decay_position_biases: bool, decay_biases: bool, head_lr: float
) -> None:
    module = Training()
    settings = ParameterGroups(decay_norms, decay_position_biases, decay_biases, head_lr)
    if settings == ParameterGroups():
        return

    def place(name: str) -> tuple[bool, bool]:
        owner, _, last = name.rpartition(".")
        if owner in NORMS:
            decayed = decay_norms
        elif last in POSITIONS:
            decayed = decay_position_biases
        else:
            decayed = last != "bias" or decay_biases
        return head_lr != 1 and ".encoder." not in name, not decayed

    expected: dict[tuple[bool, bool], list[str]] = {}
    for name, _ in module.named_parameters():
        expected.setdefault(place(name), []).append(name)
    groups = built(settings, module)
    assert [names_in(module, group) for group in groups] == [expected[k] for k in sorted(expected)]
    for (in_head, undecayed), group in zip(sorted(expected), groups, strict=True):
        overrides = {key: value for key, value in group.items() if key != "params"}
        wanted = {"weight_decay": 0.0} if undecayed else {}
        assert overrides == (wanted | {"lr_scale": head_lr} if in_head else wanted)


def test_frozen_and_shared_parameters() -> None:
    module = Training()
    encoder, head = module.network.encoder, module.network.segmentation_head
    assert isinstance(encoder, Encoder)
    assert isinstance(head, nn.Conv2d)
    encoder.conv.requires_grad_(False)
    encoder.attention.qkv.bias = head.bias = nn.Parameter(torch.zeros(3))  # both at once
    module.network = nn.ModuleDict({"head": head, "encoder": encoder})  # the head comes first
    module.network.encoder = encoder
    groups = built(ParameterGroups(head_lr=2.0), module)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(placed) == len(set(placed))
    assert set(placed) == {id(p) for p in module.parameters() if p.requires_grad}
    assert [group.get("lr_scale") for group in groups] == [None, 2.0]
    assert any(parameter is head.bias for parameter in groups[0]["params"])


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm(4),
        nn.GroupNorm(2, 4),
        nn.RMSNorm(4),
        LAYERS.BatchNormAct2d(4),
        LAYERS.GroupNormAct(4, 2),
        LAYERS.LayerNorm2d(4),
        LAYERS.RmsNorm(4),
        LAYERS.RmsNorm2d(4),
        LAYERS.SimpleNorm2d(4),
        type("ScaleNorm", (Custom,), {})(),
    ],
)
def test_norms(norm: nn.Module) -> None:
    module = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm": norm})
    decayed, undecayed = built(ParameterGroups(decay_norms=False), module)
    assert names_in(module, decayed) == ["conv.weight", "conv.bias"]
    assert {name.partition(".")[0] for name in names_in(module, undecayed)} == {"norm"}


@pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.PReLU(), LAYERS.ConvNormAct(3, 4)])
def test_layers_that_are_no_norm(layer: nn.Module) -> None:
    groups = built(ParameterGroups(decay_norms=False), layer)
    assert "weight_decay" not in groups[0]
    if isinstance(layer, LAYERS.ConvNormAct):  # its convolution decays, its norm does not
        assert names_in(layer, groups[0]) == ["conv.weight"]
        assert names_in(layer, groups[1]) == ["bn.weight", "bn.bias"]
    else:
        assert len(groups) == 1


@functools.cache
def swin() -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = smp.UPerNet(
            "tu-swin_tiny_patch4_window7_224", encoder_weights=None, classes=150
        )
    return network


def test_swin_by_its_names() -> None:
    module = nn.ModuleDict({"network": swin()})
    decayed, undecayed = built(
        ParameterGroups(decay_norms=False, decay_position_biases=False), module
    )
    encoder = {name for name in names_in(module, undecayed) if name.startswith("network.encoder.")}
    expected = {
        name
        for name, _ in swin().named_parameters(prefix="network")
        if name.startswith("network.encoder.")
        and ("norm" in name or name.endswith("relative_position_bias_table"))
    }
    assert encoder == expected
    # 12 tables; 24 norms in the blocks, 3 where patches merge, 1 after their embedding.
    assert len(encoder) == 12 + 2 * (12 * 2 + 3 + 1)
    # Outside, smp's decoder holds LayerNorms on the features and batch norms, at index 1.
    decoder = set(names_in(module, undecayed)) - encoder
    vectors = {
        name
        for name, parameter in swin().named_parameters(prefix="network")
        if not name.startswith("network.encoder.") and parameter.ndim == 1
    }
    assert decoder == vectors - {"network.segmentation_head.0.bias"}
    assert len(decoder) == 2 * (4 + 12)
    total = sum(1 for _ in swin().parameters())
    assert len(decayed["params"]) == total - len(encoder) - len(decoder)


def test_without_decay_on_biases_norms_keep_theirs() -> None:
    module = nn.ModuleDict({"network": swin()})
    _, undecayed = built(ParameterGroups(decay_biases=False), module)
    names = names_in(module, undecayed)
    assert all(name.endswith(".bias") for name in names)
    assert not any("norm" in name for name in names)
    assert "network.encoder.model.layers_0.blocks.0.attn.qkv.bias" in names


@pytest.mark.parametrize(
    "network",
    [Network(), Network("backbone"), nn.ModuleDict({"network": Network("backbone")})],
    ids=["smp", "torchvision", "adapter"],
)
def test_the_heads_rate(network: nn.Module) -> None:
    if isinstance(network, nn.ModuleDict):
        network.network = network["network"]
    module = Training(network)
    settings = ParameterGroups(decay_norms=False, head_lr=10)
    optimizer = build_optimizer(module, sgd, settings)
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert rates == [(0.1, 0.5), (0.1, 0.0), (1.0, 0.5), (1.0, 0.0)]
    heads = names_in(module, optimizer.param_groups[2]) + names_in(
        module, optimizer.param_groups[3]
    )
    assert sorted(name.rpartition("network.")[2] for name in heads) == [
        "contrast.bias",
        "contrast.weight",
        "decoder.0.bias",
        "decoder.0.weight",
        "decoder.1.bias",
        "decoder.1.weight",
        "segmentation_head.bias",
        "segmentation_head.weight",
    ]


@pytest.mark.parametrize("kind", [SGD, AdamW, Rprop])
def test_groups_hold_the_optimizers_own_keys(kind: Any) -> None:
    settings = ParameterGroups(decay_norms=False, head_lr=10)
    optimizer = build_optimizer(Training(), lambda groups: kind(groups, lr=0.1), settings)
    for group in optimizer.param_groups:
        assert set(group) == {"params", *optimizer.defaults}


def test_a_rate_held_in_a_tensor_is_not_scaled_for_all() -> None:
    rate = torch.tensor(0.1)
    optimizer = build_optimizer(
        Training(), lambda groups: AdamW(groups, lr=rate), ParameterGroups(head_lr=10)
    )
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    assert rates == pytest.approx([0.1, 1.0])


def test_without_an_encoder_the_heads_are_unknown() -> None:
    module = Training(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(ValueError, match="Sequential has neither an 'encoder' nor a 'backbone'"):
        ParameterGroups(head_lr=10).build(module)
    assert len(built(ParameterGroups(decay_biases=False), module)) == 2


@pytest.mark.parametrize("head_lr", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(head_lr: float) -> None:
    with pytest.raises(ValueError, match=f"head_lr must be above 0 and finite, got {head_lr}"):
        ParameterGroups(head_lr=head_lr)


def shares(module: nn.Module, groups: ParameterGroups) -> dict[str, float]:
    """Each parameter's rate, as a share of the optimizer's."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    optimizer = build_optimizer(module, sgd, groups)
    return {
        names[id(p)]: group["lr"] / 0.1 for group in optimizer.param_groups for p in group["params"]
    }


@pytest.mark.parametrize("num_classes", [0, 10])
def test_layer_decay_is_timms(num_classes: int) -> None:
    network = Network()
    del network.encoder
    network.encoder = nn.Module()
    vit: Any = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    reference = param_groups_layer_decay(vit, layer_decay=0.7)
    names = {id(parameter): name for name, parameter in vit.named_parameters()}
    expected = {names[id(p)]: g["lr_scale"] for g in reference for p in g["params"]}
    assert len(set(expected.values())) == 14  # embedding, twelve blocks, classifier
    vit.reset_classifier(num_classes)
    network.encoder.add_module("model", vit)
    found = shares(Training(network), ParameterGroups(layer_decay=0.7, head_lr=5))
    for name, share in found.items():
        theirs = expected[name.removeprefix("network.encoder.model.")] if "model" in name else 5
        assert share == pytest.approx(theirs), name


def test_layer_decay_without_layers() -> None:
    with pytest.raises(UserError, match="Encoder has no group_matcher"):
        ParameterGroups(layer_decay=0.7).build(Training())


def test_rates_by_name() -> None:
    scales = {"encoder": 0.5, "encoder.attention": 0.25, "encoder.conv": 0.125, "decoder.1": 2.0}
    found = shares(Training(), ParameterGroups(lr_scales=scales))
    assert found["network.encoder.pos_embed"] == pytest.approx(0.5)
    assert found["network.encoder.attention.qkv.weight"] == pytest.approx(0.25)
    assert found["network.encoder.conv.bias"] == pytest.approx(0.125)
    assert found["network.decoder.0.weight"] == found["contrast.weight"] == 1
    assert found["network.decoder.1.weight"] == 2
    shadowed = shares(Training(), ParameterGroups(lr_scales={"decoder": 3.0, "decoder.0": 2.0}))
    assert shadowed["network.decoder.0.weight"] == 2
    both = shares(Training(), ParameterGroups(lr_scales={"decoder.1": 2.0}, head_lr=3))
    assert both["network.decoder.1.weight"] == pytest.approx(6)
    with pytest.raises(UserError, match=r"lr_scales names encoder\.con, which begins no"):
        ParameterGroups(lr_scales={"encoder.con": 0.5}).build(Training())


@pytest.mark.parametrize(
    "settings", [{"layer_decay": 1.5}, {"layer_decay": 0.0}, {"lr_scales": {"encoder": -1.0}}]
)
def test_rates_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ParameterGroups(**settings)


def test_the_schedule_in_every_group() -> None:
    total, warmup, floor, power = 100, 20, 1e-3, 0.9
    settings = ParameterGroups(decay_norms=False, head_lr=10)
    optimizer = build_optimizer(Training(), sgd, settings)
    schedule = WarmupPoly(optimizer, total, power, floor, warmup, warmup_start=1e-2)
    seen = {}
    for step in range(total + 1):
        seen[step] = [float(group["lr"]) for group in optimizer.param_groups]
        optimizer.step()
        schedule.step()
    for step in (0, 1, warmup - 1, warmup, total // 2, total):
        expected = []
        for base in (0.1, 0.1, 1.0, 1.0):
            rate = (base - floor) * (1 - step / total) ** power + floor
            if step < warmup:
                rate *= 0.01 + 0.99 * step / warmup
            expected.append(rate)
        assert seen[step] == pytest.approx(expected, rel=1e-12)
    assert seen[total] == [floor] * 4  # the floor is a rate, not a share of one


def test_one_step_decays_what_is_to_decay() -> None:
    module = Training()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    settings = ParameterGroups(decay_norms=False, decay_position_biases=False, head_lr=2)
    optimizer = build_optimizer(module, sgd, settings)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        owner, _, last = name.rpartition(".")
        rate = 0.1 if ".encoder." in name else 0.2
        kept = 1.0 if owner in NORMS or last in POSITIONS else 1 - rate * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * kept)
    assert before["network.encoder.bn.weight"].abs().sum() > 0


def scheduled(lr: float, settings: ParameterGroups) -> tuple[Optimizer, WarmupPoly]:
    torch.manual_seed(1)
    optimizer = build_optimizer(
        Training(), lambda groups: SGD(groups, lr=lr, weight_decay=0.5), settings
    )
    return optimizer, WarmupPoly(optimizer, 10, power=1.0)


def test_a_changed_rate_after_a_resume_reaches_every_group() -> None:
    settings = ParameterGroups(decay_norms=False, head_lr=10)
    first, schedule = scheduled(0.1, settings)
    saved = optimizer_settings(first)
    assert [group["lr"] for group in saved] == [0.1, 0.1, 1.0, 1.0]
    for _ in range(5):
        first.step()
        schedule.step()
    second, resumed = scheduled(0.2, ParameterGroups(decay_norms=False, head_lr=20))
    wanted = optimizer_settings(second)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    apply_changed_settings(second, saved, wanted)
    rates = [group["lr"] for group in second.param_groups]
    assert rates == pytest.approx([0.1, 0.1, 2.0, 2.0])  # halfway
    assert rates == pytest.approx(resumed.get_lr())
    assert [group["weight_decay"] for group in second.param_groups] == [0.5, 0.0, 0.5, 0.0]


def test_a_resume_with_other_groups_is_refused() -> None:
    first, _ = scheduled(0.1, ParameterGroups())
    second, _ = scheduled(0.1, ParameterGroups(decay_norms=False))
    saved, wanted = optimizer_settings(first), optimizer_settings(second)
    with pytest.raises(ValueError, match="different number of parameter groups"):  # torch's own
        second.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="has 1 parameter groups, this run's has 2"):
        apply_changed_settings(second, saved, wanted)
