"""Diagnostics of the contrast: against loops, and without a trace in the run that they look at."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from pne_seg import PNE, Contrast, SegmentationModule
from pne_seg.callbacks import ContrastDiagnostics
from pne_seg.callbacks.contrast_diagnostics import cosines
from pne_seg.contrast import ContrastiveLoss, ContrastResult, PNELoss
from pne_seg.contrast.component import PixelContrast
from pne_seg.inference import Inference
from pne_seg.visualization import Embeddings, plot_embeddings, save_figure
from pne_seg.visualization.training_plots import principal_components
from tests.contrast.plain_pne import Settings, plain_pairs
from tests.training import CLASSES, NAMES, Pictures, normalized, tiny, trainer

MEASURED = ("right_within", "right_between", "wrong_within", "wrong_between")


def run(
    folder: Path, contrast: Contrast | None, diagnose: bool = True, **settings: Any
) -> tuple[SegmentationModule, list[dict[str, float]]]:
    """Two epochs of two steps; the module and what was logged, row by row."""
    logger = CSVLogger(folder, name="run", version="0")
    module = SegmentationModule(
        tiny(),
        CLASSES,
        class_names=NAMES,
        contrast=contrast,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        **settings,
    )
    torch.manual_seed(7)
    recorded = Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[ContrastDiagnostics(num_images=2)] if diagnose else [],
        max_epochs=2,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    recorded.fit(module, Pictures().loader(2), Pictures().loader(2))
    with (folder / "run" / "0" / "metrics.csv").open(newline="") as file:
        return module, [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def pne(**settings: Any) -> PNE:
    return PNE(embedding_dim=6, num_samples=20, **settings)


def test_cosines_are_means_over_pairs_of_pixels() -> None:
    vectors = torch.randn(40, 5)
    labels, predictions = torch.randint(0, 4, (2, 40))
    predictions[:20] = labels[:20]
    found: dict[str, list[float]] = {name: [] for name in MEASURED}
    for a in range(40):
        right = bool(labels[a] == predictions[a])
        similar: dict[str, list[float]] = {"within": [], "between": []}
        for b in range(40):
            if b == a or labels[b] != predictions[b]:
                continue
            similarity = float(torch.cosine_similarity(vectors[a], vectors[b], dim=0))
            if labels[b] == labels[a]:
                similar["within"].append(similarity)
            if labels[b] != labels[a] if right else labels[b] == predictions[a]:
                similar["between"].append(similarity)
        for name, values in similar.items():
            if values:
                found[f"{'right' if right else 'wrong'}_{name}"].append(float(np.mean(values)))
    measured = cosines(vectors, labels, predictions)
    assert list(measured) == list(MEASURED)
    for name, values in found.items():
        assert float(measured[name]) == pytest.approx(np.mean(values), abs=1e-6)


def test_what_there_is_not_is_left_out() -> None:
    labels = torch.tensor([0, 1])
    assert cosines(torch.zeros(0, 3), labels[:0], labels[:0]) == {}
    assert list(cosines(torch.ones(2, 3), labels, labels)) == ["right_between"]
    # Both wrong: no right pixel to compare with.
    assert cosines(torch.ones(2, 3), labels, labels.flip(0)) == {}


@pytest.mark.parametrize("project", ["all", "used"])
def test_a_run_is_the_same_with_and_without(tmp_path: Path, project: Any) -> None:
    def contrast() -> PNE:  # draws from the random state
        return pne(sampling="random", project=project)

    plain, without = run(tmp_path / "plain", contrast(), diagnose=False)
    module, rows = run(tmp_path / "looked", contrast())
    for name, value in plain.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name
    kept = [{name: row[name] for name in before} for row, before in zip(rows, without, strict=True)]
    assert kept == without
    measured = {name for row in rows for name in row} - {n for row in without for n in row}
    assert measured == {
        *("train/contrast_used", "train/gradient_contrast", "train/gradient_losses"),
        *(f"val/{of}_{name}" for of in ("embedding", "feature") for name in MEASURED),
    }


def test_gradients_and_used_pixels_of_the_first_step(tmp_path: Path) -> None:
    first = run(tmp_path, pne(weight=3.0, min_stride=None, project="all"))[1][0]

    # The same step by hand, with the same weights of network and projection by the same seed.
    network, contrast = tiny().train(), pne()
    contrast.attach(network, CLASSES, 255)
    assert contrast.projection is not None
    images, target = Pictures().images[:2], Pictures().masks[:2].long()
    feature = network.feature(normalized(images)).detach().requires_grad_()
    logits = network.segmentation_head(feature)
    enlarged = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    cross_entropy = F.cross_entropy(enlarged, target, ignore_index=255)
    pne_loss = PNELoss(num_samples=20)(contrast.projection(feature), logits, target)
    for name, loss in (("losses", cross_entropy), ("contrast", 3 * pne_loss)):
        (gradient,) = torch.autograd.grad(loss, feature, retain_graph=True)
        assert first[f"train/gradient_{name}"] == pytest.approx(float(gradient.norm()), rel=1e-4)

    settings = Settings(num_samples=20)
    size = (logits.shape[2], logits.shape[3])
    pairs = plain_pairs(size, logits.detach(), target, settings)
    used = {pixel for pair in pairs for pixels in pair[:3] for pixel in pixels}
    assert first["train/contrast_pairs"] == len(pairs) > 0
    share = len(used) / (len(images) * size[0] * size[1])
    assert first["train/contrast_used"] == pytest.approx(share)
    assert 0 < share < 1


@pytest.mark.parametrize("inference", [None, Inference(window=(8, 16), overlap=0.5)])
def test_the_baseline_is_looked_at_by_its_feature(
    tmp_path: Path, inference: Inference | None
) -> None:
    _, rows = run(tmp_path, None, inference=inference)
    measured = {name for row in rows for name in row if name.startswith("val/feature_")}
    assert measured == {f"val/feature_{name}" for name in MEASURED}
    assert not any("embedding" in name or "gradient" in name for row in rows for name in row)
    picture = cv2.imread(str(tmp_path / "run" / "0" / "figures" / "embeddings.png"))
    assert picture is not None
    assert picture.std() > 0


def test_without_a_logger_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = SegmentationModule(tiny(), CLASSES, contrast=pne())
    quiet = trainer(max_steps=1, callbacks=[ContrastDiagnostics()])
    quiet.fit(module, Pictures().loader(2), Pictures().loader(2))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_uses_all_pixels(tmp_path: Path) -> None:
    class Norms(ContrastiveLoss):
        def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
            return ContrastResult.of(embeddings.square().mean(), 0, 0)

    _, rows = run(tmp_path, Contrast(Norms(), embedding_dim=6))
    assert rows[0]["train/gradient_contrast"] > 0
    assert "train/contrast_used" not in rows[0]


def test_a_loss_without_anchors_has_no_gradient(tmp_path: Path) -> None:
    _, rows = run(tmp_path, PixelContrast(embedding_dim=6, max_views=10**6))
    assert rows[0]["train/gradient_contrast"] == 0
    assert rows[0]["train/contrast_used"] == 0


def test_principal_components_of_a_tilted_ellipse() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    # Directions near one axis, spread by three in one direction and by one in the other.
    vectors = np.stack([np.ones(60), 0.3 * np.cos(angle), 0.1 * np.sin(angle), 0 * angle], 1)
    points, shares = principal_components(5 * vectors)
    np.testing.assert_allclose(np.abs(points).max(0), [0.287, 0.0995], atol=2e-3)
    np.testing.assert_allclose(shares.sum(), 1, atol=0.01)
    assert shares[0] > 0.85


@pytest.mark.parametrize("number", [0, 1, 30])
def test_pictures_of_few_pixels_and_channels(tmp_path: Path, number: int) -> None:
    names = [f"class ${index}" for index in range(12)]
    panel = Embeddings("step 0", np.ones((number, 1)), np.arange(number) % 12, np.zeros(number))
    figure = plot_embeddings([panel, panel], class_names=names, palette=None, title="Features")
    save_figure(figure, tmp_path / "p.png")
    assert cv2.imread(str(tmp_path / "p.png")) is not None


@pytest.mark.parametrize("settings", [{"num_images": 0}, {"num_pixels": 0}])
def test_numbers_out_of_range(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be at least 1, got 0"):
        ContrastDiagnostics(**settings)
