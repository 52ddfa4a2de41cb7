"""What the PNE loss costs, beside its definition and its peers.

python -m benchmarks.pne                    all cases, then the share of a training step
python -m benchmarks.pne --fast             fewer rounds, the loop at the small cases only
python -m benchmarks.pne --cases 2,19,64,128,256 --skip-step
python -m benchmarks.pne --device cuda

Each case is forward and backward of three things, called in turn: PNELoss; the same loss as a loop
over images and pairs; and the two bare batched products (Q, n, D) x (Q, D, n) with their backward
to the anchors, which is the arithmetic of the definition without selection, softmax, or a gradient
for the embeddings. "fill" is what such a gradient costs before anything is computed: a tensor of
zeros of the embeddings' size, contained in PNELoss and in the loop. Memory is the peak beyond the
inputs; the products' inputs, 3 Q n D floats, are not counted as theirs.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.measure import interleaved, machine, peak_memory
from benchmarks.plain_loop import loop_loss
from benchmarks.step import training_step
from benchmarks.synthetic import Batch, Case, make_batch
from pne_seg.contrast import ContrastiveLoss, InfoNCELoss, Pairs, PixelContrastLoss, PNELoss
from pne_seg.contrast.interface import prepare

CASES = ["2,19,64,128,256", "2,19,128,256,256", "4,150,128,128,256", "4,171,64,64,256"]
LOSSES: dict[str, ContrastiveLoss] = {
    "PNE": PNELoss(),
    "PNE-reference": PNELoss(implementation="reference"),
    "InfoNCE": InfoNCELoss(),
    "PixelContrast": PixelContrastLoss(),
}
STEP_CASE = Case(batch=2, classes=150, height=128, width=128)


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
    print(machine(arguments.device), flush=True)

    print(
        "\nforward + backward, ms (median) and peak MB; a ratio below 1 is faster\n"
        f"{'B,C,h,w,D':>18} {'Q':>4} {'anchors':>7} | {'PNELoss':>12} {'products':>12} {'fill':>5} "
        f"{'loop':>12} | {'/ products':>10} {'loop / it':>9}",
        flush=True,
    )
    for text in arguments.cases:
        case = Case(*(int(number) for number in text.split(",")))
        with_loop = not arguments.fast or case.height * case.width <= 64 * 128
        print(case_line(case, rounds, with_loop, arguments.device), flush=True)
    print("Q: pairs that count; anchors: wrong pixels of such a pair, on average")
    print(f"\nforward + backward, ms (median)\n{'B,C,h,w,D':>18} {' '.join(LOSSES)}", flush=True)
    for text in arguments.cases:
        print(losses_line(text, min(3, rounds), arguments.device), flush=True)
    if not arguments.skip_step:
        batch = make_batch(STEP_CASE, device=arguments.device)
        print(training_step(batch, 2 if arguments.fast else 5, arguments.device))


def losses_line(text: str, rounds: int, device: str) -> str:
    """Measure all losses on one case."""
    batch = make_batch(Case(*(int(number) for number in text.split(","))), device=device)
    calls = {name: loss_call(loss, batch) for name, loss in LOSSES.items()}
    seconds = interleaved(calls, rounds, device)
    cells = [f"{seconds[name] * 1e3:>{len(name)}.1f}" for name in LOSSES]
    return f"{text:>18} {' '.join(cells)}"


def case_line(case: Case, rounds: int, with_loop: bool, device: str) -> str:
    """Measure one case."""
    batch = make_batch(case, device=device)
    selection = select(batch)
    calls = {
        "pne": loss_call(PNELoss(), batch),
        "products": products_call(selection, case.channels, device),
        "fill": lambda: torch.zeros_like(batch.embeddings),
    }
    seconds = interleaved(calls, rounds, device)
    memory = {name: peak_memory(call, device) for name, call in calls.items()}
    loop, loop_ratio = "-", "-"
    if with_loop:
        # In turn with the loss again, and seldom: it takes seconds.
        both = {"pne": calls["pne"], "loop": loop_call(batch)}
        slow = interleaved(both, 3, device)
        loop = f"{slow['loop'] * 1e3:.0f} {peak_memory(both['loop'], device) / 1e6:5.0f}MB"
        loop_ratio = f"{slow['loop'] / slow['pne']:.0f}x"
    cells = [f"{seconds[n] * 1e3:.1f} {memory[n] / 1e6:4.0f}MB" for n in ("pne", "products")]
    return (
        f"{case!s:>18} {selection.num_pairs:>4} "
        f"{selection.num_anchors / selection.num_pairs:>7.1f} | {cells[0]:>12} {cells[1]:>12} "
        f"{seconds['fill'] * 1e3:>5.1f} {loop:>12} | "
        f"{seconds['pne'] / seconds['products']:>9.2f}x {loop_ratio:>9}"
    )


def select(batch: Batch) -> Pairs:
    """The pairs of a batch."""
    logits, labels = prepare(batch.embeddings, batch.logits, batch.target)
    return PNELoss().select(logits, labels).pairs


def loss_call(loss: ContrastiveLoss, batch: Batch) -> Callable[[], object]:
    """Forward and backward of a loss."""
    embeddings = batch.embeddings.requires_grad_()
    return lambda: torch.autograd.grad(loss(embeddings, batch.logits, batch.target), embeddings)


def loop_call(batch: Batch) -> Callable[[], object]:
    """Forward and backward of the loop."""
    embeddings = batch.embeddings.requires_grad_()
    return lambda: torch.autograd.grad(
        loop_loss(embeddings, batch.logits, batch.target), embeddings
    )


def products_call(selection: Pairs, channels: int, device: str) -> Callable[[], object]:
    """The two products of Q pairs with n samples each, and their gradient for the anchors."""
    shape = (selection.num_pairs, selection.num_samples, channels)
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
