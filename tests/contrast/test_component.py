"""`Contrast` on other people's networks: it reads them, and changes nothing."""

import copy
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

from pne_seg.contrast import ContrastiveLoss, ContrastResult, PNELoss
from pne_seg.contrast.component import PNE, Contrast, PixelContrast, Projection
from pne_seg.contrast.interface import prepare
from pne_seg.feature_hooks import capture
from tests.tiny_networks import Subsample, TinyNet, balance_classes, hook_count, same_tensors

CLASSES = 3


class Recorder(PNELoss):
    """Keeps what the loss is called with."""

    def __init__(self) -> None:
        super().__init__(max_anchors=10**6)
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        self.seen.append((embeddings, logits, target))
        return super().compute(embeddings, logits, target)


@dataclass
class Case:
    """A network, the image side it takes, and the grids due for it.

    Attributes:
        build: makes it with random weights.
        side: of the square image, in pixels.
        channels: of the feature that enters the classifier.
        feature: side of that feature.
        grid: side of the embeddings at `min_stride` 4.
    """

    build: Callable[[], Any]
    side: int
    channels: int
    feature: int
    grid: int


def smp_case(
    name: str,
    channels: int,
    stride: int,
    side: int = 64,
    encoder: str = "resnet18",
    **settings: Any,
) -> Any:
    def build() -> Any:
        return getattr(smp, name)(encoder, encoder_weights=None, classes=CLASSES, **settings)

    case = Case(build, side, channels, side // stride, side // max(4, stride))
    return pytest.param(case, id=name)


def torchvision_case(name: str, channels: int) -> Any:
    def build() -> Any:
        make = getattr(torchvision.models.segmentation, name)
        return make(weights=None, weights_backbone=None, num_classes=CLASSES)

    return pytest.param(Case(build, 64, channels, 8, 8), id=name)


CASES = [
    smp_case("Unet", 16, 1),
    smp_case("UnetPlusPlus", 16, 1),
    smp_case("MAnet", 16, 1),
    smp_case("Linknet", 32, 1),
    smp_case("FPN", 128, 4),
    smp_case("PSPNet", 512, 8),
    smp_case("PAN", 32, 4, side=128),
    smp_case("DeepLabV3", 256, 8),
    smp_case("DeepLabV3Plus", 256, 4),
    smp_case("UPerNet", 256, 4),
    smp_case("Segformer", 256, 4),
    smp_case("DPT", 16, 2, side=224, encoder="tu-vit_tiny_patch16_224", decoder_fusion_channels=16),
    torchvision_case("deeplabv3_resnet50", 256),
    torchvision_case("fcn_resnet50", 512),
]


def scores(output: Any) -> Tensor:
    """torchvision's networks return a dictionary."""
    found: Tensor = output["out"] if isinstance(output, dict) else output
    return found


@pytest.mark.parametrize("case", CASES)
def test_attaches_to_any_network_and_leaves_it_as_it_is(case: Case) -> None:
    bare = case.build()
    network = copy.deepcopy(bare)
    kind = type(network)
    recorder = Recorder()
    contrast = Contrast(recorder, embedding_dim=24, project="all")
    contrast.attach(network, CLASSES, ignore_index=255)
    assert type(network) is kind
    assert same_tensors(network.state_dict(), bare.state_dict())

    images = torch.randn(2, 3, case.side, case.side)
    with torch.no_grad():
        assert torch.equal(scores(network.eval()(images)), scores(bare.eval()(images)))

    # Training, with all its dropout and batch statistics, tapped and not.
    outputs = []
    for each, hooks in ((bare, []), (network, contrast.hooks)):
        torch.manual_seed(7)
        with capture(hooks):
            outputs.append(scores(each.train()(images)))
    assert torch.equal(*outputs)
    assert same_tensors(network.state_dict(), bare.state_dict())

    # The term. Labels at random, so that right and wrong pixels occur.
    target = torch.randint(0, CLASSES, (2, case.side, case.side))
    classifier = network.get_submodule(contrast.hooks[1].module_name)
    balance_classes(classifier, contrast.hooks[1].take())
    contrast.hooks[0].take()
    with capture(contrast.hooks):
        network(images)
    term = contrast(target, step=0)
    embeddings, logits, _ = recorder.seen[-1]
    assert embeddings.shape == (2, 24, case.grid, case.grid)
    assert logits.shape == (2, CLASSES, case.feature, case.feature)
    assert contrast.projection is not None
    assert contrast.projection[0].weight.shape == (case.channels, case.channels, 1, 1)
    assert term.statistics["contrast_pairs"].item() > 0
    assert term.value.item() > 0
    term.weighted.backward()
    for name, parameter in contrast.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    received = [
        parameter.grad
        for name, parameter in network.named_parameters()
        if name.startswith(("encoder", "backbone")) and parameter.grad is not None
    ]
    assert any(gradient.any() for gradient in received)
    # The logits choose the pixels; they are not trained by this term.
    assert all(parameter.grad is None for parameter in classifier.parameters())

    contrast.detach()
    assert hook_count(network) == hook_count(bare)


def test_projection_of_512_channels_has_394496_parameters() -> None:
    network = smp.PSPNet("resnet18", encoder_weights=None, classes=CLASSES)  # 512 channels
    contrast = PNE()
    contrast.attach(network, CLASSES, 255)
    assert sum(parameter.numel() for parameter in contrast.parameters()) == 394_496
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    assert contrast.projection is not None
    assert [type(layer) for layer in contrast.projection] == kinds


@pytest.mark.parametrize(
    ("stride", "min_stride", "size", "grid"),
    [
        (1, None, (16, 24), (16, 24)),
        (1, 4, (16, 24), (4, 6)),
        (1, 4, (45, 70), (11, 17)),
        (2, 4, (32, 48), (8, 12)),
        (2, 8, (32, 48), (4, 6)),
        (2, 2, (32, 48), (16, 24)),
        (4, 4, (32, 48), (8, 12)),
        (8, 4, (32, 48), (4, 6)),
        (1, 4, (3, 5), (1, 1)),
    ],
)
def test_embeddings_and_labels_stay_aligned(
    stride: int, min_stride: int | None, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    height, width = size
    # Images, and with them features, hold each pixel's own place; so do the labels.
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([rows, columns, torch.zeros_like(rows)])[None].float()
    target = (rows * width + columns)[None]
    network = Subsample(CLASSES, stride)
    recorder = Recorder()
    contrast = Contrast(recorder, min_stride=min_stride, project="all")
    contrast.attach(network, CLASSES, ignore_index=0)
    contrast.projection = nn.Identity()  # type: ignore[assignment]
    with capture(contrast.hooks):
        network(images)
    with pytest.raises(ValueError, match="labels outside"):  # places are no classes
        contrast(target + CLASSES, step=0)
    embeddings, logits, _ = recorder.seen[-1]
    assert embeddings.shape[-2:] == grid
    seen_logits, seen_labels = prepare(embeddings, logits, target)
    classifier = network.segmentation_head
    for i in range(grid[0]):
        for j in range(grid[1]):
            row, column = i * height // grid[0], j * width // grid[1]
            assert embeddings[0, :2, i, j].tolist() == [row, column]
            assert seen_labels[0, i, j] == row * width + column
            expected = classifier(embeddings[:, :, i : i + 1, j : j + 1])
            torch.testing.assert_close(seen_logits[:, :, i : i + 1, j : j + 1], expected)


def test_term_equals_the_loss_on_parts_taken_by_hand() -> None:
    network = TinyNet(CLASSES, stride=1, dropout=0.5)
    contrast = PNE(weight=0.7, embedding_dim=6, temperature=0.3, num_samples=5, project="all")
    contrast.attach(network, CLASSES, ignore_index=9)
    images = torch.randn(2, 3, 16, 24)
    target = torch.randint(0, CLASSES, (2, 16, 24))
    target[:, :3] = 9
    network.segmentation_head[0].eval()  # without dropout, to compute it again
    feature = network.feature(images)
    balance_classes(network.segmentation_head[1], network.segmentation_head(feature))
    with capture(contrast.hooks):
        network(images)
    projection = copy.deepcopy(contrast.projection)
    term = contrast(target, step=0)
    logits = network.segmentation_head(feature)
    loss = PNELoss(temperature=0.3, num_samples=5, ignore_index=9)
    assert projection is not None
    expected = loss.compute(
        projection(feature[..., ::4, ::4]), logits[..., ::4, ::4], target[:, ::4, ::4]
    )
    assert expected.num_pairs > 0
    torch.testing.assert_close(term.value, expected.loss)
    torch.testing.assert_close(term.weighted, 0.7 * expected.loss)
    assert term.name == "contrast"
    assert {name: value.item() for name, value in term.statistics.items()} == {
        "contrast_pairs": expected.num_pairs.item(),
        "contrast_anchors": expected.num_anchors.item(),
    }


# ---- the projection of used pixels -------------------------------------------------------


def test_pixels_that_all_vary_are_projected_as_an_image_is() -> None:
    projection, by_hand = Projection(8, 5), Projection(8, 5)
    by_hand.load_state_dict(projection.state_dict())
    pixels = torch.randn(30, 8, requires_grad=True)
    image = pixels.detach().T[None, :, :, None].requires_grad_()  # (1, 8, 30, 1)
    projected, none = projection.project_pixels(pixels, pixels[:0].detach())
    expected = by_hand(image)[0, :, :, 0].T
    torch.testing.assert_close(projected, expected)
    assert none.shape == (0, 5)
    weights = torch.randn(30, 5)
    (projected * weights).sum().backward()
    (expected * weights).sum().backward()
    assert pixels.grad is not None
    assert image.grad is not None
    torch.testing.assert_close(pixels.grad, image.grad[0, :, :, 0].T)
    for (name, one), (_, other) in zip(
        projection.named_parameters(), by_hand.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    for mine, theirs in zip(projection.buffers(), by_hand.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_constant_pixels_enter_the_statistics_alone() -> None:
    projection, by_hand = Projection(8, 5), Projection(8, 5)
    by_hand.load_state_dict(projection.state_dict())
    pixels = torch.randn(30, 8, requires_grad=True)
    varying, constant = projection.project_pixels(pixels[:12], pixels[12:])
    expected = by_hand(pixels.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(torch.cat([varying, constant]), expected)
    assert not constant.requires_grad
    (varying * torch.randn(12, 5)).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad[12:].count_nonzero() == 0
    assert (pixels.grad[:12].abs().sum(1) > 0).all()


def used_and_all(loss: str, target: Tensor, **settings: Any) -> list[Any]:
    """The term, the hook's feature and the projection, with used pixels projected and with all."""
    found = []
    for project in ("used", "all"):
        torch.manual_seed(0)
        network = TinyNet(CLASSES)
        kind = {"PNE": PNE, "PixelContrast": PixelContrast}[loss]
        contrast = kind(project=project, embedding_dim=6, **settings)
        contrast.attach(network, CLASSES, 255)
        images = torch.randn(2, 3, 32, 32)
        with capture(contrast.hooks):
            network(images)
        found.append((contrast(target, 0), contrast.projection, network))
    return found


def test_used_pixels_give_the_loss_of_their_projection() -> None:
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, CLASSES, (2, 32, 32), generator=generator)
    (used, projection, network), (everything, _, _) = used_and_all("PNE", target)
    for name, value in used.statistics.items():
        assert value == everything.statistics[name] > 0
    # Other batch statistics: another value, but near.
    assert used.value.item() == pytest.approx(everything.value.item(), rel=0.1)
    assert used.value.item() != everything.value.item()
    used.weighted.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in projection.parameters())
    assert network.encoder[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("loss", "labels", "settings"),
    [
        ("PNE", None, {}),  # nothing labeled
        ("PNE", (0, 1), {"max_anchors": 0}),  # no pair counts
        ("PixelContrast", (0,), {"max_views": 1}),  # one pixel
    ],
)
def test_few_pixels_are_projected_with_others(
    loss: str, labels: tuple[int, ...] | None, settings: dict[str, Any]
) -> None:
    target = torch.full((2, 32, 32), 255)
    if labels is not None:
        target[0, :, :16], target[0, :, 16:] = labels[0], labels[-1]
    term, projection, network = used_and_all(loss, target, **settings)[0]
    assert term.value.item() == pytest.approx(0, abs=1e-6)
    term.weighted.backward()
    for parameter in projection.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-6
    assert network.encoder[0].weight.grad.abs().max() < 1e-6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's memory figures")
def test_memory_does_not_grow_with_changing_numbers_of_pixels_in_bfloat16() -> None:
    """oneDNN keeps a kernel for every shape that a bfloat16 product takes."""
    contrast = PNE()
    network = TinyNet(CLASSES, width=64)
    contrast.attach(network, CLASSES, 255)
    images = torch.randn(4, 3, 64, 64)
    used = []
    for step in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            labels = network(images).argmax(1)
            wrong = torch.rand(labels.shape) < 0.001 * step
            labels[wrong] = (labels[wrong] + 1) % CLASSES
            loss = contrast(labels).weighted
        loss.backward()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * resource.getpagesize() / 1e6)
    assert used[-1] - used[4] < 60  # MB


def test_a_loss_that_selects_nothing_needs_all() -> None:
    class Whole(ContrastiveLoss):
        """Reads all embeddings."""

    class Changed(PNELoss):
        """Selects, but has a loss of its own on all embeddings."""

        def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
            return ContrastResult.of(embeddings.mean(), 0, 0)

    for loss in (Whole(), Changed()):
        with pytest.raises(ValueError, match=r"got (Whole|Changed)\. Use project='all'"):
            Contrast(loss, project="used")
        assert Contrast(loss).project == "all"
    assert Contrast(PNELoss()).project == "used"
    with pytest.raises(ValueError, match="project must be 'all', 'used' or None, got 'some'"):
        Contrast(PNELoss(), project="some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("warmup_steps", "by_step"),
    [
        (10, {0: 0.0, 1: 0.13, 5: 0.65, 10: 1.3, 11: 1.3, 10_000: 1.3}),
        (0, {0: 1.3, 1: 1.3}),
    ],
)
def test_weight_warms_up_linearly(warmup_steps: int, by_step: dict[int, float]) -> None:
    network = TinyNet(CLASSES)
    contrast = PNE(weight=1.3, warmup_steps=warmup_steps, embedding_dim=4)
    contrast.attach(network, CLASSES, 255)
    target = torch.zeros(2, 16, 16, dtype=torch.int64)
    for step, expected in by_step.items():
        with capture(contrast.hooks):
            network(torch.randn(2, 3, 16, 16))
        assert contrast(target, step).weight == pytest.approx(expected)


def test_random_numbers_are_the_same_with_and_without() -> None:
    network = TinyNet(CLASSES, dropout=0.5)
    before = torch.get_rng_state()
    contrast = PNE()
    contrast.attach(network, CLASSES, 255)
    assert torch.equal(torch.get_rng_state(), before)
    # Its own weights still follow the seed.
    first = contrast.state_dict()
    contrast.attach(network, CLASSES, 255)
    assert same_tensors(contrast.state_dict(), first)
    torch.manual_seed(1)
    contrast.attach(network, CLASSES, 255)
    assert not torch.equal(
        contrast.state_dict()["projection.0.weight"], first["projection.0.weight"]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -0.1}, "weight"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"min_stride": 0}, "min_stride"),
        ({"feature_module": "decoder"}, "both"),
        ({"logits_module": "decoder"}, "both"),
        ({"temperature": 0.0}, "temperature"),
        ({"num_samples": 0}, "num_samples"),
        ({"min_anchors": 5, "max_anchors": 4}, "anchors"),
        ({"sampling": "systematic"}, "sampling"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PNE(**settings)


def test_pne_hands_its_settings_on() -> None:
    drawn = {"num_samples": 7, "min_anchors": 2, "max_anchors": 50, "sampling": "random"}
    contrast = PNE(temperature=0.5, weight_positives=False, **drawn, weight=0.2, min_stride=None)
    assert isinstance(contrast.loss, PNELoss)
    select = contrast.loss.sampler
    assert (contrast.loss.temperature, contrast.loss.weight_positives) == (0.5, False)
    assert (select.num_samples, select.min_anchors, select.max_anchors) == (7, 2, 50)
    assert (select.sampling, contrast.weight, contrast.min_stride) == ("random", 0.2, None)


def test_modules_named_by_hand() -> None:
    network = TinyNet(CLASSES, width=8)
    contrast = PNE(embedding_dim=4, feature_module="decoder", logits_module="segmentation_head")
    contrast.attach(network, CLASSES, 255)
    images = torch.randn(2, 3, 16, 16)
    network.eval()
    with capture(contrast.hooks):
        output = network(images)
    assert torch.equal(contrast.hooks[0].take(), network.encoder(images))
    assert torch.equal(contrast.hooks[1].take(), output)


@pytest.mark.parametrize(
    ("settings", "classes", "message"),
    [
        ({}, CLASSES + 1, r"'segmentation_head.1' gives 3 channels, but there are 4 classes"),
        ({"feature_module": "nowhere", "logits_module": "decoder"}, CLASSES, "no module 'nowhere'"),
        ({"feature_module": "decoder", "logits_module": "nowhere"}, CLASSES, "no module 'nowhere'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_and_left_bare(
    settings: dict[str, Any], classes: int, message: str
) -> None:
    network = TinyNet(CLASSES)
    with pytest.raises(ValueError, match=message):
        PNE(**settings).attach(network, classes, 255)
    assert hook_count(network) == 0


def test_a_hook_on_something_else_than_a_map_is_refused() -> None:
    network = smp.FPN("resnet18", encoder_weights=None, classes=CLASSES)
    contrast = PNE(feature_module="decoder", logits_module="segmentation_head")
    with pytest.raises(ValueError, match=r"feature_module 'decoder': .* list, "):
        contrast.attach(network, CLASSES, 255)


class Branched(TinyNet):
    """A norm of the image, a pooled gate, a shared ReLU, a spare layer, a resized output."""

    def __init__(self) -> None:
        super().__init__(CLASSES, width=8)
        self.norm = nn.Identity()
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)
        self.relu, self.spare = nn.ReLU(), nn.ReLU()
        self.named = nn.Conv2d(8, 8, 1)
        self.up, self.soft = nn.Upsample(scale_factor=2), nn.Softmax(1)

    def forward(self, images: Tensor) -> Tensor:
        feature = self.relu(self.feature(self.norm(images) / 2))
        feature = self.relu(feature * self.gate(self.pool(feature)))
        logits = self.segmentation_head(self.named(input=feature))
        self.soft(logits)
        scores: Tensor = self.up(logits)
        return scores


HEAD = r".*Name 'segmentation_head': what enters it is the feature"


@pytest.mark.parametrize(
    ("feature", "logits", "message"),
    [
        *(
            (name, "segmentation_head", f"the image itself{HEAD}")
            for name in ("", "norm", "encoder")
        ),
        ("encoder", "", r"the image itself.*Name 'segmentation_head.1'"),
        ("up", "segmentation_head", f"the logits, or computed from them{HEAD}"),
        ("soft", "segmentation_head", f"the logits, or computed from them{HEAD}"),
        ("gate", "segmentation_head", f"one value per channel{HEAD}"),
        ("spare", "segmentation_head", "'spare' is not run in a forward pass"),
        ("relu", "segmentation_head", "'relu' runs 2 times in a forward pass"),
        ("decoder", "spare", "'spare' is not run"),
        ("decoder", "soft", "'soft' ends in softmax"),
        ("decoder", "named", "'named' gives 8 channels, but there are 3 classes"),
    ],
)
def test_a_feature_that_is_none_is_refused(feature: str, logits: str, message: str) -> None:
    network = Branched()
    contrast = PNE(feature_module=feature, logits_module=logits)
    with pytest.raises(ValueError, match=message):
        contrast.attach(network, CLASSES, 255)
    assert hook_count(network) == 0


@pytest.mark.parametrize(
    "feature", ["decoder", "named", "segmentation_head", "segmentation_head.1"]
)
def test_a_feature_of_the_network_reaches_its_layers(feature: str) -> None:
    network = Branched()
    contrast = PNE(embedding_dim=4, feature_module=feature, logits_module="segmentation_head")
    contrast.attach(network, CLASSES, 255)
    with capture(contrast.hooks):
        network(torch.randn(2, 3, 32, 32))
    contrast(torch.randint(0, CLASSES, (2, 32, 32)), 0).weighted.backward()
    gradient = next(network.encoder.parameters()).grad
    assert gradient is not None
    assert gradient.any()


def test_a_frozen_network_is_refused() -> None:
    network = TinyNet(CLASSES).requires_grad_(False)
    contrast = PNE(feature_module="segmentation_head", logits_module="segmentation_head")
    with pytest.raises(ValueError, match=r"without a trained layer.*Unfreeze the network"):
        contrast.attach(network, CLASSES, 255)


def test_order_of_calls_is_explained() -> None:
    contrast = PNE(embedding_dim=4)
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="attach"):
        contrast(target, 0)
    contrast.attach(TinyNet(CLASSES), CLASSES, 255)
    with pytest.raises(RuntimeError, match="No tensor has passed"):
        contrast(target, 0)


def test_ignore_index_comes_with_the_data() -> None:
    contrast = PNE()
    contrast.attach(TinyNet(CLASSES), CLASSES, ignore_index=11)
    assert contrast.loss.ignore_index == 11


def test_the_network_is_not_part_of_it() -> None:
    network = TinyNet(CLASSES)
    contrast = PNE()
    contrast.attach(network, CLASSES, 255)
    assert not {*map(id, contrast.modules())} & {*map(id, network.modules())}
    assert not {*map(id, contrast.parameters())} & {*map(id, network.parameters())}
    assert all(key.startswith("projection.") for key in contrast.state_dict())
    assert contrast.state_dict()


def test_deepcopy_trains_apart_from_the_original() -> None:
    network = TinyNet(CLASSES)
    contrast = PNE(embedding_dim=4)
    contrast.attach(network, CLASSES, 255)
    images = torch.randn(2, 3, 32, 32)
    with capture(contrast.hooks):
        network(images)
    balance_classes(network.segmentation_head[1], contrast.hooks[1].take())
    contrast.hooks[0].take()
    network_copy, contrast_copy = copy.deepcopy((network, contrast))
    with capture(contrast_copy.hooks):
        network_copy(images)
    term = contrast_copy(torch.randint(0, CLASSES, (2, 32, 32)), step=0)
    term.value.backward()
    received = next(network_copy.parameters()).grad
    assert received is not None
    assert received.any()
    assert all(p.grad is None for p in (*network.parameters(), *contrast.parameters()))
    contrast_copy.detach()
    assert (hook_count(network_copy), hook_count(network)) == (0, 2)


@pytest.mark.parametrize("tapped", [False, True])
def test_hooked_network_compiles_to_one_graph(tapped: bool) -> None:
    torch.compiler.reset()
    network = TinyNet(CLASSES).eval()
    contrast = PNE(embedding_dim=4)
    contrast.attach(network, CLASSES, 255)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    images = torch.randn(2, 3, 16, 16)
    with capture(contrast.hooks if tapped else []):
        output = compiled(images)
    assert torch.equal(output, network(images))
    if tapped:
        assert torch.equal(contrast.hooks[0].take(), network.feature(images))
        assert torch.equal(contrast.hooks[1].take(), output)
    else:
        with pytest.raises(RuntimeError, match="No tensor"):
            contrast.hooks[0].take()
    torch.compiler.reset()


def test_hooked_smp_network_exports() -> None:
    network = smp.UPerNet(
        "resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16
    ).eval()
    contrast = PNE()
    contrast.attach(network, CLASSES, 255)
    images = torch.randn(1, 3, 64, 64)
    exported = torch.export.export(network, (images,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images), network(images))
