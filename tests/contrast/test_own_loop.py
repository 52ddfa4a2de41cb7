"""The component in a training loop that knows nothing of it: the documentation's own lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pne_seg.contrast.component import PNE
from tests.tiny_networks import TinyNet, balance_classes, hook_count

ROOT = Path(__file__).parents[2]
CLASSES = 19
Batch = tuple[Tensor, Tensor]


def block(page: str) -> str:
    """Return the page's Python block that trains."""
    blocks = (ROOT / page).read_text(encoding="utf-8").split("```python\n")[1:]
    (code,) = [code for each in blocks if "for images" in (code := each.partition("```")[0])]
    return code


def batch() -> Batch:
    return torch.randn(2, 3, 64, 64), torch.randint(0, CLASSES, (2, 64, 64))


@pytest.mark.parametrize("page", ["README.md", "docs/contrast.md"])
def test_the_loop_of_the_documentation(page: str) -> None:
    names: dict[str, Any] = {}
    before: dict[str, Tensor] = {}

    def loader() -> Iterator[Batch]:
        before.update({k: v.clone() for k, v in names["contrast"].state_dict().items()})
        for _ in range(2):
            yield batch()

    names["loader"] = loader()
    code = block(page)
    loop = code.partition("\n\n")[2].strip().splitlines()
    assert len(loop) <= 10
    torch.manual_seed(0)
    exec(compile(code, page, "exec"), names)
    contrast, network = names["contrast"], names["network"]
    trained = dict(contrast.named_parameters())
    assert trained
    for name, parameter in trained.items():
        assert not torch.equal(parameter, before[name]), name
    contrast.detach()
    assert hook_count(network) == 0


def test_only_training_passes_are_read() -> None:
    torch.manual_seed(0)
    network, contrast = TinyNet(CLASSES), PNE(embedding_dim=4, max_anchors=10**6)
    contrast.attach(network, CLASSES, 255)
    images, target = batch()
    logits = network(images)
    balance_classes(network.get_submodule("segmentation_head.1"), logits)
    network(images)
    expected = contrast(target).value
    assert expected > 0
    # A validation between the pass and the loss does not take its place.
    network(images)
    with torch.no_grad():
        network.eval()(torch.randn_like(images))
        network.train()(torch.randn_like(images))
    torch.testing.assert_close(contrast(target).value, expected)
    with pytest.raises(RuntimeError, match=r"No tensor.*eval mode inside `with pne_seg\.feature"):
        contrast(target)


def test_what_is_refused() -> None:
    contrast = PNE(warmup_steps=10)
    for ask in (contrast.parameters, contrast.named_parameters):
        with pytest.raises(RuntimeError, match=r"PNE has no parameters yet\. Call attach\("):
            list(ask())
    contrast.attach(TinyNet(CLASSES), CLASSES, 255)
    with pytest.raises(ValueError, match="warmup_steps is 10: pass step"):
        contrast(torch.zeros(2, 8, 8, dtype=torch.long))


def test_with_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    images, target = batch()
    trained = []
    for accelerator in (None, accelerate.Accelerator(cpu=True)):
        torch.manual_seed(0)
        network: nn.Module = TinyNet(CLASSES)
        contrast: nn.Module = PNE(embedding_dim=4, max_anchors=10**6)
        contrast.attach(network, CLASSES, 255)  # type: ignore[operator]
        parameters = [*network.parameters(), *contrast.parameters()]
        optimizer: Any = torch.optim.SGD(parameters, lr=0.1)
        data: Any = [(images[0], target[0])] * 4
        loader: Any = torch.utils.data.DataLoader(data, batch_size=2)
        if accelerator is not None:
            network, contrast, optimizer, loader = accelerator.prepare(
                network, contrast, optimizer, loader
            )
        for batch_images, labels in loader:
            logits = network(batch_images)
            logits = nn.functional.interpolate(logits, labels.shape[-2:])
            loss = nn.functional.cross_entropy(logits, labels) + contrast(labels).weighted
            loss.backward() if accelerator is None else accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        trained.append(torch.cat([parameter.flatten() for parameter in parameters]))
    torch.testing.assert_close(*trained)
