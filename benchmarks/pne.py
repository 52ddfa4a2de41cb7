"""What the contrastive losses cost, beside the arithmetic that PNE's definition needs.

python -m benchmarks.pne                    all cases, then the share of a training step
python -m benchmarks.pne --fast             fewer rounds, the loop at the small cases only
python -m benchmarks.pne --cases 2,19,64,128,256 --skip-step
python -m benchmarks.pne --device cuda

Everything is forward and backward, called in turn, and a ratio to the two bare batched products
(Q, n, D) x (Q, D, n) with their backward to the anchors: the arithmetic of the definition without
selection, softmax, or a gradient for the embeddings.

used   the loss as `project: used` calls it: it selects its pixels and scores their embeddings
all    the loss on a whole map of embeddings (B, D, h, w), as `project: all` calls it; its backward
       writes a gradient of that size, mostly zeros
loop   the same loss as PNE on a whole map, in a loop over images and pairs

Memory is the peak beyond the inputs.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.measure import interleaved, machine, peak_memory
from benchmarks.plain_loop import loop_loss
from benchmarks.step import training_step
from benchmarks.synthetic import Batch, Case, make_batch
from pne_seg.contrast import InfoNCELoss, Pairs, PixelContrastLoss, PNELoss, SelectiveLoss, prepare
from pne_seg.contrast.interface import take

CASES = ["2,19,64,128,256", "2,19,128,256,256", "4,150,128,128,256", "4,171,64,64,256"]
LOSSES: dict[str, SelectiveLoss] = {
    "PNE": PNELoss(),
    "PNE, reference": PNELoss(implementation="reference"),
    "InfoNCE": InfoNCELoss(),
    "PixelContrast": PixelContrastLoss(),
}
STEP_CASE = Case(batch=2, classes=150, height=128, width=128)
HEADER = (
    "| B, C, h, w, D | Q | loss | used, ms | / products | MB | all, ms | / products | MB |\n"
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of a loss's forward and backward, called on used pixels and on all."""

    case: str
    pairs: int
    loss: str
    used: float
    used_memory: float
    all: float
    all_memory: float
    products: float

    def __str__(self) -> str:
        cells = [self.case, self.pairs, self.loss]
        for seconds, memory in ((self.used, self.used_memory), (self.all, self.all_memory)):
            ratio = seconds / self.products
            cells += [f"{seconds * 1e3:.1f}", f"{ratio:.2f}", f"{memory / 1e6:.0f}"]
        return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="B,C,h,w,D")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each (default 15)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=int, help="CPU threads; 1 gives steady ratios on a machine that is shared"
    )
    parser.add_argument("--fast", action="store_true", help="5 rounds, the loop at 64 x 128 only")
    parser.add_argument("--skip-step", action="store_true", help="leave out the training step")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rounds = 5 if arguments.fast else arguments.rounds
    print(f"{machine(arguments.device)}; medians of {rounds}\n\n{HEADER}", flush=True)
    loops = []
    for text in arguments.cases:
        case = Case(*(int(number) for number in text.split(",")))
        batch = make_batch(case, device=arguments.device)
        for cost in measure(batch, rounds, arguments.device):
            print(cost, flush=True)
        if not arguments.fast or case.height * case.width <= 64 * 128:
            loops.append(f"{case}: {loop_ratio(batch, arguments.device):.0f} times PNE, all")
    print("\nloop", *loops, sep="\n  ")
    if not arguments.skip_step:
        batch = make_batch(STEP_CASE, device=arguments.device)
        print(training_step(batch, 2 if arguments.fast else 5, arguments.device))


def measure(batch: Batch, rounds: int, device: str) -> list[Cost]:
    """Measure all losses on one batch, in turn with the products."""
    used = {name: used_call(loss, batch) for name, loss in LOSSES.items()}
    whole = {name: all_call(loss, batch) for name, loss in LOSSES.items()}
    pairs = PNELoss().select(*prepare(batch.embeddings, batch.logits, batch.target)).pairs
    calls = {f"used {name}": call for name, call in used.items()}
    calls |= {f"all {name}": call for name, call in whole.items()}
    calls["products"] = products_call(pairs, batch.embeddings.shape[1], device)
    seconds = interleaved(calls, rounds, device)
    shape = (*batch.logits.shape[:2], *batch.embeddings.shape[2:], batch.embeddings.shape[1])
    return [
        Cost(
            case=", ".join(map(str, shape)),
            pairs=pairs.num_pairs,
            loss=name,
            used=seconds[f"used {name}"],
            used_memory=peak_memory(used[name], device),
            all=seconds[f"all {name}"],
            all_memory=peak_memory(whole[name], device),
            products=seconds["products"],
        )
        for name in LOSSES
    ]


def used_call(loss: SelectiveLoss, batch: Batch) -> Callable[[], object]:
    """Return a call of the selection, the loss on the selected pixels, and its backward."""
    selection = loss.select(*prepare(batch.embeddings, batch.logits, batch.target))
    varying = take(batch.embeddings.detach(), selection.varying).requires_grad_()
    constant = take(batch.embeddings.detach(), selection.constant)

    def call() -> object:
        selection = loss.select(*prepare(batch.embeddings, batch.logits, batch.target))
        return torch.autograd.grad(loss.score(varying, constant, selection).loss, varying)

    return call


def all_call(loss: SelectiveLoss, batch: Batch) -> Callable[[], object]:
    """Return a call of the loss on a whole map, and its backward."""
    embeddings = batch.embeddings.requires_grad_()
    return lambda: torch.autograd.grad(loss(embeddings, batch.logits, batch.target), embeddings)


def loop_ratio(batch: Batch, device: str) -> float:
    """Return how much longer the loop takes, which is called three times: it takes seconds."""
    embeddings = batch.embeddings.requires_grad_()
    inputs = (embeddings, batch.logits, batch.target)
    calls = {
        "PNE": all_call(LOSSES["PNE"], batch),
        "loop": lambda: torch.autograd.grad(loop_loss(*inputs), embeddings),
    }
    seconds = interleaved(calls, 3, device)
    return seconds["loop"] / seconds["PNE"]


def products_call(pairs: Pairs, channels: int, device: str) -> Callable[[], object]:
    """Return the products of Q pairs with n samples each, and their gradient for the anchors."""
    shape = (pairs.num_pairs, pairs.num_samples, channels)
    anchors, positives, negatives = torch.randn(3, *shape, device=device)
    anchors.requires_grad_()
    upstream = torch.randn(shape[0], shape[1], shape[1], device=device)
    return lambda: torch.autograd.grad(
        [torch.bmm(anchors, positives.mT), torch.bmm(anchors, negatives.mT)],
        anchors,
        [upstream, upstream],
    )


if __name__ == "__main__":
    main()
