"""Images a second and memory of whole images, windows and several scales, by precision and engine.

python -m benchmarks.inference                                 all rows; the CPU, minutes
python -m benchmarks.inference --only whole --rounds 10
python -m benchmarks.inference --config configs/ade20k_upernet_swin.yaml --classes 150
python -m benchmarks.inference --device cuda --batch 4
python -m benchmarks.inference --scores                        memory of the class scores alone

The network is that of a config, with random weights. Protocols: the whole image; windows of half
its height and width, which cover each other by a third; and the published baselines' six scales,
each mirrored too. Engines: PyTorch as it is (eager), `torch.compile`, and ONNX Runtime, which runs
the exported graph on the whole image (normalization and enlarged scores included). bf16 is
autocast, as of --trainer.precision bf16-mixed. Each ends with the class of every pixel. A rate is
the median of the rounds; memory is the peak of a call beyond what was held before it (of ONNX
Runtime, which keeps its memory, of the first call). Each row runs in a process of its own.

With --scores: an image of 2048×1024 in 171 classes by a network that costs nothing and gives its
scores at a quarter of the size. What is held at most is given in bytes of tensors, which repeats
exactly, in shares of the scores at full size (1.43 GB), and as the process's memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from benchmarks.measure import interleaved, machine, peak_memory, peak_tensors
from pne_seg.export.tracing import trace, write_onnx
from pne_seg.imports import Imports
from pne_seg.inference import Inference, Predictor, Preprocessing, network_stride
from pne_seg.networks.slot import build_network, complete_slot

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
PROTOCOLS = ("whole", "windows", "scales and mirrored")
ENGINES = ("eager", "compiled", "ONNX Runtime")
ROWS = [
    (protocol, engine, precision)
    for protocol in PROTOCOLS
    for engine in ENGINES
    for precision in ("fp32", "bf16")
    if engine != "ONNX Runtime" or (protocol, precision) == ("whole", "fp32")
]
SCORES = (171, 1024, 2048)  # classes, height, width
SCORES_PROTOCOLS = {
    "whole": Inference(),
    "mirrored too": Inference(flip=True),
    "windows of 512×512": Inference(window=(512, 512)),
    "six scales, mirrored too": Inference(scales=SCALES, flip=True),
    "windows, six scales, mirrored too": Inference(window=(512, 512), scales=SCALES, flip=True),
}


@dataclass(frozen=True)
class Figures:
    """What a row says.

    Attributes:
        seconds: of a call.
        memory: bytes at its peak.
        tensors: bytes of tensors at its peak; 0 where they were not counted.
    """

    seconds: float
    memory: float
    tensors: int = 0


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/camvid_upernet_resnet18.yaml"))
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--size", type=int, nargs=2, default=(384, 480), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1, help="images a call (default 1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--only", choices=PROTOCOLS)
    parser.add_argument("--scores", action="store_true", help="memory of the class scores alone")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)  # how the rows' processes start
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.row is not None:
        measure = measure_scores if arguments.scores else measure_row
        print(json.dumps(asdict(measure(arguments))))
        return
    print(machine(arguments.device))
    if arguments.scores:
        _scores_table()
    else:
        _table(arguments)


def measure_row(arguments: argparse.Namespace) -> Figures:
    """Measure one of `ROWS`.

    Args:
        arguments: of the command line.
    """
    protocol, engine, precision = ROWS[arguments.row]
    height, width = arguments.size
    slot = yaml.safe_load(arguments.config.read_text())["model"]["network"]
    torch.manual_seed(0)
    own = Imports(own=True)
    network = build_network(complete_slot(slot, arguments.classes, own), own)
    network = network.eval().to(arguments.device)
    preprocessing = Preprocessing(stride=network_stride(network)).to(arguments.device)
    images = torch.randint(0, 256, (arguments.batch, 3, height, width), dtype=torch.uint8)
    images = images.to(arguments.device)
    inference = {
        "whole": Inference(),
        "windows": Inference(window=(height // 2, width // 2)),
        "scales and mirrored": Inference(scales=SCALES, flip=True),
    }[protocol]
    if engine == "ONNX Runtime":
        classify = _onnx_runtime(network, preprocessing, images)
    else:
        predictor = Predictor(network, preprocessing, inference)
        if engine == "compiled":
            predictor.compile()

        def classify() -> object:
            return predictor.classes(images)

    autocast: AbstractContextManager[object] = nullcontext()
    if precision == "bf16":
        autocast = torch.autocast(arguments.device, torch.bfloat16)
    with torch.inference_mode(), autocast:
        # ONNX Runtime keeps the memory of its first call; compiling takes memory of its own.
        first = peak_memory(classify, arguments.device)
        seconds = interleaved({"it": classify}, arguments.rounds, arguments.device)["it"]
        later = peak_memory(classify, arguments.device)
    return Figures(seconds, first if engine == "ONNX Runtime" else later)


def _onnx_runtime(
    network: nn.Module, preprocessing: Preprocessing, images: Tensor
) -> Callable[[], object]:
    import onnxruntime

    below, right = (-side % preprocessing.stride for side in images.shape[-2:])
    if below or right:
        raise SystemExit(f"ONNX Runtime's graph takes sides that {preprocessing.stride} divides.")
    providers = ["CUDAExecutionProvider"] if images.is_cuda else ["CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        height, width = images.shape[-2:]
        write_onnx(trace(network, preprocessing, (height, width)), file, {})
        session = onnxruntime.InferenceSession(file, options, providers)
    pixels = images.float().cpu().numpy()
    return lambda: session.run(None, {"images": pixels})[0].argmax(1)


def measure_scores(arguments: argparse.Namespace) -> Figures:
    """Measure one of `SCORES_PROTOCOLS`.

    Args:
        arguments: of the command line.
    """
    classes, height, width = SCORES
    inference = list(SCORES_PROTOCOLS.values())[arguments.row]
    predictor = Predictor(nn.Conv2d(3, classes, 1, stride=4), Preprocessing(), inference)
    images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)

    def classify() -> object:
        return predictor.classes(images)

    with torch.inference_mode():
        memory = peak_memory(classify, "cpu")
        return Figures(0, memory, peak_tensors(classify))


def _table(arguments: argparse.Namespace) -> None:
    height, width = arguments.size
    print(
        f"{arguments.config.stem}, {arguments.classes} classes, {arguments.batch} × "
        f"{width}×{height} pixels, median of {arguments.rounds}\n"
    )
    header = ("protocol", "engine", "precision", "images/s", "× eager fp32", "MB")
    print(_line(header), _line(["---"] * 3 + ["---:"] * 3), sep="\n", flush=True)
    first: dict[str, float] = {}
    for row, (protocol, engine, precision) in enumerate(ROWS):
        if arguments.only not in (None, protocol):
            continue
        figures, cells = _measured(row), ["failed", "", ""]
        if figures is not None:
            base = first.setdefault(protocol, figures.seconds)
            rate = arguments.batch / figures.seconds
            cells = [f"{rate:.3g}", f"{base / figures.seconds:.2f}", f"{figures.memory / 1e6:.0f}"]
        print(_line([protocol, engine, precision, *cells]), flush=True)


def _scores_table() -> None:
    classes, height, width = SCORES
    full = classes * height * width * 4
    print(f"{width}×{height} pixels, {classes} classes: {full / 1e9:.2f} GB at full size\n")
    header = ("protocol", "tensors, GB", "× full size", "process, GB", "× full size")
    print(_line(header), _line(["---"] + ["---:"] * 4), sep="\n", flush=True)
    for row, protocol in enumerate(SCORES_PROTOCOLS):
        figures, cells = _measured(row), ["failed", "", "", ""]
        if figures is not None:
            cells = [
                f"{held / scale:.2f}"
                for held in (figures.tensors, figures.memory)
                for scale in (1e9, full)
            ]
        print(_line([protocol, *cells]), flush=True)


def _measured(row: int) -> Figures | None:
    """Measure a row in a new process; None if it failed, for example without memory."""
    command = [sys.executable, "-m", __spec__.name, "--row", str(row), *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return None if done.returncode else Figures(**json.loads(done.stdout.splitlines()[-1]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
