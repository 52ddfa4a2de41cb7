"""What each method costs, and what the contrast adds to its training.

python -m benchmarks.networks --rounds 3                       all rows, 18 minutes on two cores
python -m benchmarks.networks --only UPerNet --rounds 1
python -m benchmarks.networks --device cuda --precision bf16 --rounds 10 --batch 8

Parameters and operations are those of the network alone, without auxiliary head and projection.
An operation is a multiplication or an addition (2 for a multiply-add, where papers often count 1),
counted for one image in evaluation on the meta device.

A step is forward, losses, backward and the optimizer's step in float32 (or under autocast to bf16)
with everything of the recipe: auxiliary head, dropout, drop-path, SGD or AdamW. With and without
the contrast (PNE and its projection, of all pixels or of the used ones) it is the same module,
called in turn; times are medians of the rounds, those with the contrast as multiples of the one
without. On a busy machine steps differ by more than the contrast costs: "alone" is the contrast's
own forward and backward on the tensors of such a step, in five times as many rounds, as a share of
the step without it.

The learning rate is 0, so that all rounds are the same step. The scores of an untrained network
confuse classes at random; so those of a half-trained one (benchmarks/synthetic.py, 13 classes an
image, a tenth of the pixels wrong) are added to them, in all cases. Memory is the peak of a step
with its gradients, beyond weights and optimizer state.

Each row runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import interleaved, machine, peak_memory
from benchmarks.synthetic import Case, make_batch
from pne_seg import PNE, SegmentationModule
from pne_seg.contrast import ContrastResult
from pne_seg.feature_hooks import FeatureHook, capture, find_classifier, find_module
from pne_seg.losses import CrossEntropy
from pne_seg.networks import AuxiliaryLogits, FCNHead
from pne_seg.networks.auxiliary import Auxiliary
from pne_seg.networks.catalogue import METHODS, Method
from pne_seg.optim import ParameterGroups

CLASSES = 150
WRONG = 0.1  # of the pixels
ROWS = (
    ("DeepLabV3", "tu-resnet101c"),
    ("HRNetV2", "tu-hrnet_w48"),
    ("OCRNet", "tu-hrnet_w48"),
    ("UPerNet", "tu-resnet101c"),
    ("UPerNet", "tu-swin_tiny_patch4_window7_224"),
    ("UPerNet", "tu-swin_base_patch4_window12_384"),
)
HEADER = (
    *("method", "backbone", "parameters", "GFLOP 512×512", "GFLOP 512×1024"),
    *("images/s", "step, project: all", "used", "alone, project: all", "used"),
    *("GB", "project: all", "used"),
    *("pairs", "wrong pixels in them"),
)


@dataclass(frozen=True)
class Figures:
    """What a row says.

    Attributes:
        parameters: of the network.
        square: operations of an image of 512 × 512.
        wide: operations of an image of 512 × 1024.
        seconds: of a step, without the contrast, with it, and with used pixels projected.
        alone: seconds of the contrast's own forward and backward, of all and of used pixels.
        memory: bytes at a step's peak, the same.
        pairs: pairs of classes that counted in a step.
        anchors: wrong pixels in them.
    """

    parameters: int
    square: int
    wide: int
    seconds: tuple[float, float, float]
    alone: tuple[float, float]
    memory: tuple[float, float, float]
    pairs: int
    anchors: int


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each (default 3)")
    parser.add_argument("--crop", type=int, default=512, help="side of the crop (default 512)")
    parser.add_argument("--batch", type=int, default=2, help="images a step (default 2)")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--only", choices=sorted({method for method, _ in ROWS}))
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)  # how the rows' processes start
    arguments = parser.parse_args()
    if arguments.crop % 32 or arguments.crop < 64 or arguments.batch < 2 or arguments.rounds < 1:
        parser.error("the networks need a crop that 32 divides, 64 or more, and two images a step")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.row is not None:
        print(json.dumps(asdict(measure(*ROWS[arguments.row], arguments))))
        return
    print(machine(arguments.device))
    print(
        f"training step: {arguments.batch} crops of {arguments.crop} × {arguments.crop}, "
        f"{CLASSES} classes, {arguments.precision}, medians of {arguments.rounds}\n"
    )
    print(_line(HEADER), _line(["---", "---"] + ["---:"] * (len(HEADER) - 2)), sep="\n", flush=True)
    for row, (method, encoder) in enumerate(ROWS):
        if arguments.only in (None, method):
            command = [sys.executable, "-m", __spec__.name, "--row", str(row), *sys.argv[1:]]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            cells = [f"failed, exit code {done.returncode}"]  # out of memory, say: continue
            if not done.returncode:
                cells = _cells(Figures(**json.loads(done.stdout)), arguments.batch)
            print(_line([method, encoder.removeprefix("tu-"), *cells]), flush=True)


def measure(method_name: str, encoder: str, arguments: argparse.Namespace) -> Figures:
    """Measure a row.

    Args:
        method_name: the method.
        encoder: the encoder's name.
        arguments: `device`, `rounds`, `crop` in pixels, `batch` in images and `precision`.
    """
    method = next(method for method in METHODS if method.name == method_name)
    with torch.device("meta"):
        bare = method.build(encoder, CLASSES).eval()
    torch.manual_seed(0)
    swin = "swin" in encoder
    settings: dict[str, Any] = {"drop_path_rate": 0.3} if swin else {}
    network = method.build(encoder, CLASSES, **settings)
    images = torch.randint(0, 256, (arguments.batch, 3, arguments.crop, arguments.crop))
    images = images.to(torch.uint8)
    target = _half_train(network, images.float(), arguments.device)
    contrast = PNE()
    module = _training_module(network, method, swin, contrast).to(arguments.device)
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: logged.__setitem__(name, value)  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    batch = {"image": images.to(arguments.device), "mask": target.to(arguments.device)}

    bf16 = arguments.precision == "bf16"

    def step(project: Literal["all", "used"] | None) -> None:
        module.contrast = contrast if project else None
        contrast.project = project or "all"
        with torch.autocast(arguments.device, torch.bfloat16, enabled=bf16):
            loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # last, so that no gradients are held before a step

    tensors: list[Tensor] = []
    compute = contrast.compute

    def keep(*given: Tensor) -> ContrastResult:
        tensors[:] = [tensor.detach() for tensor in given]
        return compute(*given)

    contrast.compute = keep  # type: ignore[assignment,method-assign]
    step("all")
    contrast.compute = compute  # type: ignore[method-assign]
    tensors[0].requires_grad_()

    def contrast_alone(project: Literal["all", "used"]) -> None:
        contrast.project = project
        with torch.autocast(arguments.device, torch.bfloat16, enabled=bf16):
            loss = compute(*tensors).loss
        loss.backward()
        tensors[0].grad = None

    calls = {str(project): partial(step, project) for project in (None, "all", "used")}
    seconds = interleaved(calls, arguments.rounds, arguments.device)
    projects: tuple[Literal["all", "used"], ...] = ("all", "used")
    alone = interleaved(
        {project: partial(contrast_alone, project) for project in projects},
        5 * arguments.rounds,
        arguments.device,
    )
    tensors.clear()
    memory = {name: peak_memory(call, arguments.device) for name, call in calls.items()}
    return Figures(
        parameters=sum(parameter.numel() for parameter in bare.parameters()),
        square=operations(bare, 512, 512),
        wide=operations(bare, 512, 1024),
        seconds=(seconds["None"], seconds["all"], seconds["used"]),
        alone=(alone["all"], alone["used"]),
        memory=(memory["None"], memory["all"], memory["used"]),
        pairs=int(logged["train/contrast_pairs"]),
        anchors=int(logged["train/contrast_anchors"]),
    )


def operations(network: nn.Module, height: int, width: int) -> int:
    """Multiplications and additions of a forward pass of one image.

    Args:
        network: on the meta device.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return int(counter.get_total_flops())


def _training_module(
    network: nn.Module, method: Method, swin: bool, contrast: PNE
) -> SegmentationModule:
    """Build the recipe's training, with a learning rate of 0."""
    auxiliary: Auxiliary | None = None
    if method.fcn_head:
        auxiliary = FCNHead(feature_module="decoder.feature_norms.2") if swin else FCNHead()
    elif method.name == "OCRNet":
        auxiliary = AuxiliaryLogits()
    sgd: Any = partial(torch.optim.SGD, lr=0.0, momentum=0.9, weight_decay=5e-4)
    adamw: Any = partial(torch.optim.AdamW, lr=0.0, weight_decay=0.01)
    return SegmentationModule(
        network,
        CLASSES,
        loss=CrossEntropy(average="all"),
        contrast=contrast,
        auxiliary=auxiliary,
        dropout=0.1 if method.fcn_head else 0.0,
        optimizer=adamw if swin else sgd,
        parameter_groups=ParameterGroups(decay_norms=not swin, decay_position_biases=not swin),
    )


def _half_train(network: nn.Module, images: Tensor, device: str) -> Tensor:
    """Add a half-trained network's scores to the classifier's, before any hook captures them.

    Returns:
        (B, H, W), the labels that those scores belong to.
    """
    name = find_classifier(network).logits
    hook = FeatureHook(name, "output")
    hook.attach(network)
    with torch.no_grad(), capture([hook]):
        network.eval()(images[:1])
        height, width = hook.take().shape[-2:]
    hook.detach()
    network.train()
    case = Case(len(images), CLASSES, height, width, channels=1)
    batch = make_batch(case, wrong=WRONG)
    scores = batch.logits.to(device)

    def add(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        # The dummy images that build the training module send smaller images.
        return output + scores if output.shape == scores.shape else output

    find_module(network, name).register_forward_hook(add)
    labels = batch.target[:, None].to(torch.uint8)
    return F.interpolate(labels, size=images.shape[-2:])[:, 0]


def _cells(figures: Figures, batch: int) -> list[str]:
    without, with_contrast, used = figures.seconds
    return [
        f"{figures.parameters:,}",
        f"{figures.square / 1e9:.0f}",
        f"{figures.wide / 1e9:.0f}",
        f"{batch / without:.3g}",
        f"×{with_contrast / without:.3f}",
        f"×{used / without:.3f}",
        *(f"{seconds / without:.1%}" for seconds in figures.alone),
        *(f"{value / 1e9:.2f}" for value in figures.memory),
        str(figures.pairs),
        str(figures.anchors),
    ]


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
