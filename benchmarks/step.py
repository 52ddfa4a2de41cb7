"""The share of the PNE loss in a training step of UPerNet with Swin-T."""

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Call, interleaved
from benchmarks.synthetic import Batch
from pne_seg.contrast import PNELoss
from pne_seg.contrast.component import Projection

CROP, WIDTH, CLASSES = 512, 512, 150


def training_step(batch: Batch, rounds: int, device: str) -> str:
    """Compare a step with the loss alone, and with the loss and its projection head.

    The logits of an untrained network confuse classes at random, so the loss is timed on
    ``batch``, and the projection on the feature's size.
    """
    images = len(batch.target)
    image = torch.randn(images, 3, CROP, CROP, device=device)
    target = torch.randint(0, CLASSES, (images, CROP, CROP), device=device)
    network = smp.create_model(
        "upernet",
        encoder_name="tu-swin_tiny_patch4_window7_224",
        encoder_weights=None,
        decoder_channels=WIDTH,
        classes=CLASSES,
        img_size=CROP,
    ).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-5, weight_decay=0.01)
    projection = Projection(WIDTH, batch.embeddings.shape[1]).to(device)
    size = batch.embeddings.shape[2:]
    feature = torch.randn(images, WIDTH, *size, device=device, requires_grad=True)
    loss, embeddings = PNELoss(), batch.embeddings.requires_grad_()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(image), target).backward()
        optimizer.step()

    def project() -> Tensor:
        result: Tensor = projection(feature)
        return result

    calls: dict[str, Call] = {
        "step": step,
        "loss": lambda: torch.autograd.grad(
            loss(embeddings, batch.logits, batch.target), embeddings
        ),
        "projection": lambda: loss(project(), batch.logits, batch.target).backward(),
    }
    seconds = interleaved(calls, rounds, device)
    arithmetic = {
        "step": _operations(lambda: F.cross_entropy(network(image), target).backward()),
        "projection": _operations(lambda: project().sum().backward()),
    }
    share = {name: 100 * value / seconds["step"] for name, value in seconds.items()}
    flops = arithmetic["projection"] / arithmetic["step"]
    return (
        f"\nUPerNet Swin-T, {CROP} x {CROP}, batch {images}, {CLASSES} classes, forward + backward "
        f"+ AdamW, no auxiliary head: {seconds['step'] * 1e3:.0f} ms\n"
        f"  PNELoss at {size[0]} x {size[1]}: {seconds['loss'] * 1e3:.1f} ms, "
        f"{share['loss']:.2f}% of the step\n"
        f"  with its projection head: {seconds['projection'] * 1e3:.1f} ms, "
        f"{share['projection']:.1f}% (the projection is {100 * flops:.1f}% of the step's "
        f"{arithmetic['step'] / 1e12:.2f} TFLOP)"
    )


def _operations(call: Call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
