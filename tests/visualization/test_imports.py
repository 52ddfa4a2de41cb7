"""What the package loads, and when: matplotlib when it draws, pyplot never."""

import os
import subprocess
import sys
from pathlib import Path


def test_importing_the_package_does_not_load_matplotlib() -> None:
    code = "import sys, pne_seg.visualization; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_drawing_loads_no_pyplot_and_sets_no_backend(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from pne_seg.description import DataDescription
from pne_seg import visualization as show
folder = Path(sys.argv[1])
figures = [
    show.plot_curves({"val/mIoU": [(1, 0.5)]}, title=""),
    show.plot_class_iou(["a"], [0.5], title=""),
    show.plot_confusion_matrix([[1]], ["a"], title=""),
    show.training_mosaic([np.zeros((8, 8, 3), np.uint8)], [np.zeros((8, 8), int)],
                         DataDescription("D", ("a",), ((9, 9, 9),), 255, None), title=""),
]
for number, figure in enumerate(figures):
    show.save_figure(figure, folder / f"{number}.png")
import matplotlib
chosen = dict.__getitem__(matplotlib.rcParams, "backend")  # plainly read, it would be chosen now
print("matplotlib.pyplot" in sys.modules, isinstance(chosen, str))
"""
    # The variable would name a backend from the start.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["False", "False"]
    assert len(list(tmp_path.iterdir())) == 4
