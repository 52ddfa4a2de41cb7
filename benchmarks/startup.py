"""Seconds until a command answers, in turn with the imports that it is measured by.

python -m benchmarks.startup                          this checkout, 3 minutes on one core
python -m benchmarks.startup --other ../main          and another one beside it, 7 minutes

Each line is a fresh process. All run in turn, so that a disturbance hits all alike; a figure is the
median of the rounds. What is counted is processor time, which is the wall's where the machine has
nothing else to do. A ratio compares with the imports without which nothing of the kind works.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import machine

CONFIG = "--config=configs/scenes_upernet_resnet18.yaml"
TORCH = "import torch"
LIBRARIES = "import lightning.pytorch, lightning.pytorch.cli, segmentation_models_pytorch"
CASES: dict[str, tuple[Sequence[str], str | None]] = {
    TORCH: (["-c", TORCH], None),
    "from pne_seg import PNELoss": (["-c", "from pne_seg import PNELoss"], TORCH),
    "import Lightning and smp": (["-c", LIBRARIES], None),
    "fit --print_config": (["cli.py", "fit", CONFIG, "--print_config"], "import Lightning and smp"),
    "fit, a mistyped key": (["cli.py", "fit", CONFIG, "--model.contrst", "PNE"], None),
    "fit --help": (["cli.py", "fit", "--help"], None),
    "fit --model.contrast --help": (["cli.py", "fit", "--model.contrast", "--help"], None),
    **{f"{verb} --help": (["cli.py", verb, "--help"], None)
       for verb in ("check-data", "export", "models", "compare", "sweep")},
}  # fmt: skip


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--other", type=Path, action="append", default=[], help="a checkout")
    arguments = parser.parse_args()
    checkouts = [*arguments.other, Path(__file__).parents[1]]
    seconds = {(checkout, case): list[float]() for checkout in checkouts for case in CASES}
    for timed in range(-1, arguments.rounds):  # the first one warms up
        for (checkout, case), found in seconds.items():
            before = _processor_time()
            command = [sys.executable, *CASES[case][0]]
            environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
            subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=False)
            found += [_processor_time() - before] if timed >= 0 else []
    print(f"{machine('cpu')}, median seconds of {arguments.rounds} processes")
    print(f"{'':<30}" + "".join(f"{checkout.resolve().name:>22}" for checkout in checkouts))
    for case, (_, base) in CASES.items():
        line = f"{case:<30}"
        for checkout in checkouts:
            median = statistics.median(seconds[checkout, case])
            ratio = median / statistics.median(seconds[checkout, base]) if base else None
            line += f"{median:>12.2f}" + (f" ({ratio:.2f} ×)" if ratio else "").rjust(10)
        print(line.rstrip())


def _processor_time() -> float:
    """Return the seconds that all processes started here have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
