"""Lightning's moving average of weights and `torch.compile`, with taps in the network."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader

from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from pne_seg.weight_loading import initialize_from
from tests.tiny_networks import same_tensors
from tests.training import CLASSES, Pictures, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*when using `ckpt_path`, callbacks used"),
]

DECAY = 0.75


def training(dropout: float = 0.3, **settings: Any) -> SegmentationModule:
    return SegmentationModule(
        tiny(),
        CLASSES,
        contrast=pne(),
        auxiliary=FCNHead(channels=4, feature_module="encoder"),
        dropout=dropout,
        **settings,
    )


class Record(Callback):
    """Losses and weights after each training step, and the score of each validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.states: list[dict[str, Tensor]] = []
        self.scores: list[float] = []
        self.names: set[str] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].item())
        self.states.append({k: v.clone() for k, v in pl_module.state_dict().items()})
        self.names = set(trainer.callback_metrics)
        assert trainer.callback_metrics["train/contrast_pairs"] > 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scores.append(trainer.callback_metrics["val/loss"].item())


def fit(module: SegmentationModule, callbacks: list[Callback], **settings: Any) -> Trainer:
    torch.manual_seed(17)  # of the dropout
    once = trainer(callbacks=callbacks, num_sanity_val_steps=0, **settings)
    once.fit(module, Pictures(6).loader(2), Pictures(2, (20, 18)).loader(2))
    return once


def moving_average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The first step's weights, then d·average + (1 − d)·weights."""
    average = {name: tensor.double() for name, tensor in states[0].items()}
    for state in states[1:]:
        for name, tensor in state.items():
            average[name] = DECAY * average[name] + (1 - DECAY) * tensor.double()
    return average


def assert_average(found: dict[str, Tensor], states: list[dict[str, Tensor]]) -> None:
    expected = moving_average(states)
    assert list(found) == list(expected)
    for name, tensor in found.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_scored_and_saved_weights_are_the_moving_average(tmp_path: Path) -> None:
    module, seen = training(), Record()
    once = fit(module, [EMAWeightAveraging(decay=DECAY), seen], max_epochs=1)
    assert len(seen.states) == 3
    assert_average(module.state_dict(), seen.states)
    parameter = "network.encoder.0.weight"
    assert not torch.equal(module.state_dict()[parameter], seen.states[-1][parameter])
    once.save_checkpoint(tmp_path / "last.ckpt")

    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert_average(checkpoint["state_dict"], seen.states)
    assert same_tensors(checkpoint["state_dict"], module.state_dict())
    # The validation inside the training had the same weights as one of the checkpoint.
    other = training()
    loader = Pictures(2, (20, 18)).loader(2)
    scores = trainer().validate(
        other, loader, ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True
    )
    assert scores[0]["val/loss"] == pytest.approx(seen.scores[0], rel=1e-6)
    assert not initialize_from(training(), tmp_path / "last.ckpt").other_shape


def test_averaging_leaves_the_training_as_it_is() -> None:
    plain, averaged = Record(), Record()
    fit(training(), [plain], max_epochs=2)
    fit(training(), [EMAWeightAveraging(decay=DECAY), averaged], max_epochs=2)
    assert len(plain.losses) == 6
    assert averaged.losses == plain.losses
    assert averaged.names == plain.names
    assert all(map(same_tensors, averaged.states, plain.states))
    assert averaged.scores != plain.scores


class Save(Callback):
    """At the end of each epoch, as checkpoints are written."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.file)


def test_an_averaged_training_resumes_exactly(tmp_path: Path) -> None:
    straight, first, second = Record(), Record(), Record()
    module, resumed = training(dropout=0), training(dropout=0)
    fit(module, [EMAWeightAveraging(decay=DECAY), straight], max_epochs=2)
    file = tmp_path / "last.ckpt"
    fit(training(dropout=0), [EMAWeightAveraging(decay=DECAY), first, Save(file)], max_epochs=1)
    saved = torch.load(file, weights_only=True)
    assert_average(saved["state_dict"], first.states)
    assert same_tensors(saved["current_model_state"], first.states[-1])

    loaders = Pictures(6).loader(2), Pictures(2, (20, 18)).loader(2)
    once = trainer(callbacks=[EMAWeightAveraging(decay=DECAY), second], max_epochs=2)
    once.fit(resumed, *loaders, ckpt_path=file, weights_only=True)
    assert [*first.losses, *second.losses] == straight.losses
    assert same_tensors(resumed.state_dict(), module.state_dict())


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """`torch.compile` that traces and counts graphs, but needs no C++ compiler."""
    counter = CompileCounter()
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    yield counter
    torch._dynamo.reset()


def test_compiled_training_is_the_same(compiler: CompileCounter) -> None:
    plain, compiled = Record(), Record()
    bare = training()
    fit(bare, [plain], max_epochs=1)
    assert compiler.frame_count == 0
    module = training(compile=True)
    keys = list(module.state_dict())
    fit(module, [compiled], max_epochs=1)
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-6)
    assert compiled.scores == pytest.approx(plain.scores, rel=1e-6)
    assert compiled.names == plain.names  # the taps' terms among them
    assert list(module.state_dict()) == keys == list(bare.state_dict())
    for name, tensor in bare.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor)
    # One graph for training, one for validation at its own size: no break in either.
    assert not counters["graph_break"]
    assert compiler.frame_count == 2


def test_lists_of_features_are_tapped_in_one_graph(
    compiler: CompileCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """smp's encoders give a list, which a tap copies."""
    monkeypatch.setattr(SegmentationModule, "log", lambda *_, **__: None)
    losses = []
    for compiled in (False, True):
        torch.manual_seed(3)
        network = smp.UPerNet(
            "resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16
        )
        module = SegmentationModule(
            network,
            CLASSES,
            contrast=pne(),
            auxiliary=FCNHead(channels=4),
            dropout=0.3,
            compile=compiled,
        )
        module.setup("fit")
        torch.manual_seed(17)
        losses.append(module.training_step(Pictures(2, (32, 64)).batch(), 0).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert compiler.frame_count == 1
    assert not counters["graph_break"]


def test_compiled_networks_take_other_sizes(compiler: CompileCounter) -> None:
    module = training(compile=True)
    batches = [Pictures(2, size).batch() for size in ((20, 18), (16, 24), (32, 20))]
    predictions: Any = trainer().predict(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert compiler.frame_count >= 1
    reference = training().eval()
    for batch, prediction in zip(batches, predictions, strict=True):
        with torch.no_grad():
            assert torch.equal(prediction, reference(batch["image"]).argmax(1))
    assert not counters["graph_break"]


def test_compiled_and_averaged(compiler: CompileCounter) -> None:
    module, seen, plain = training(compile=True), Record(), Record()
    fit(training(), [plain], max_epochs=1)
    fit(module, [EMAWeightAveraging(decay=DECAY), seen], max_epochs=1)
    assert_average(module.state_dict(), seen.states)
    assert seen.losses == pytest.approx(plain.losses, rel=1e-6)
    assert not counters["graph_break"]


def test_a_compiled_network_is_trained_again_and_scored(compiler: CompileCounter) -> None:
    """Each stage compiles anew; hooks of the one before leave nothing behind."""
    module = training(compile=True)
    once = fit(module, [], max_epochs=1)
    loader = Pictures(2, (20, 18)).loader(2)
    scores = once.validate(module, loader, verbose=False)
    reference = training()
    reference.load_state_dict(module.state_dict())
    expected = trainer().validate(reference, loader, verbose=False)
    assert scores[0] == pytest.approx(expected[0])
    again = Record()
    fit(module, [again], max_epochs=1)
    assert len(again.losses) == 3
    assert not counters["graph_break"]
