"""What the servers take: names, values, one file for each image, nothing else."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pne_seg.data.classes import class_list
from pne_seg.errors import UserError
from pne_seg.prediction.manifest import Origin
from pne_seg.prediction.outputs import Submission, Target

ORIGIN = Origin("a.png", "0" * 32)


def submission(folder: Path, benchmark: str) -> Submission:
    return Submission(folder, benchmark, class_list(benchmark).names, "Mine")


def target(name: str, is_frame: bool = False) -> Target:
    return Target(name, f"photos/{name}.jpg", ORIGIN, is_frame)


@pytest.mark.parametrize(
    ("benchmark", "name", "fits"),
    [
        ("cityscapes", "berlin_000000_000019_leftImg8bit", True),
        ("cityscapes", "bad-honnef_000000_000019", True),
        ("cityscapes", "val/frankfurt/frankfurt_000000_000294_leftImg8bit", True),
        ("cityscapes", "berlin_000000_0000190", False),
        ("cityscapes", "IMG_1234", False),
        ("ade20k", "ADE_test_00000001", True),
        ("ade20k", "ADE_val_00000001", True),
        ("ade20k", "ADE_test_00000001_copy", False),
        ("ade20k", "ADE_test_1", False),
    ],
)
def test_names(tmp_path: Path, benchmark: str, name: str, fits: bool) -> None:
    layout = submission(tmp_path / "out", benchmark)
    if fits:
        layout.check_targets([target(name)])
        assert layout.paths(target(name)) == [tmp_path / "out" / f"{name.split('/')[-1]}.png"]
        return
    with pytest.raises(UserError, match=rf"{name}\.jpg: format {benchmark} needs images named"):
        layout.check_targets([target(name)])


def test_what_a_server_would_not_know(tmp_path: Path) -> None:
    layout = submission(tmp_path, "cityscapes")
    left, right = (f"berlin_000000_000019_{side}Img8bit" for side in ("left", "right"))
    with pytest.raises(UserError, match=r"leftImg8bit\.jpg and .*rightImg8bit\.jpg would be"):
        layout.check_targets([target(left), target(right)])  # the script looks for one of a frame
    with pytest.raises(UserError, match="needs images named"):
        layout.check_targets([target("ride/berlin_000000_000019", is_frame=True)])
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(UserError, match=r"holds other files \(readme\.txt\)"):
        layout.check_targets([target(left)])


def test_other_classes(tmp_path: Path) -> None:
    names = list(class_list("cityscapes").names)
    with pytest.raises(UserError, match=r"its 19 classes in order; .* trained on Mine: 18 classes"):
        Submission(tmp_path, "cityscapes", names[:-1], "Mine")
    with pytest.raises(UserError, match="class 0 is 'sidewalk' here, 'road' in cityscapes"):
        Submission(tmp_path, "cityscapes", [names[1], names[0], *names[2:]], "Mine")


@pytest.mark.parametrize(("benchmark", "values"), [("cityscapes", 19), ("ade20k", 150)])
def test_values_are_the_benchmarks_own(tmp_path: Path, benchmark: str, values: int) -> None:
    layout = submission(tmp_path, benchmark)
    classes = np.arange(values, dtype=np.uint8).reshape(1, -1)
    (path,) = layout.paths(target("x"))
    path.write_bytes(layout.encode(path, classes, None))
    written = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    official = {
        "cityscapes": [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33],
        "ade20k": [*range(1, 151)],
    }
    assert written is not None
    assert written.tolist() == [official[benchmark]]
    said = layout.check_files({tmp_path / "x.png": (1, values)})
    assert said.startswith(f"Checked 1 files for {benchmark}")


def test_files_that_a_server_would_refuse(tmp_path: Path) -> None:
    layout = submission(tmp_path, "ade20k")
    good = np.full((4, 5), 150, np.uint8)
    bad: dict[str, npt.NDArray[Any]] = {
        "no PNG of one 8-bit channel": good.astype(np.uint16),
        "one 8-bit channel": np.dstack([good] * 3),
        r"is \(4, 5\) .*, its image \(4, 6\)": good,
        "holds 0": np.zeros((4, 6), np.uint8),
        "holds 151": np.full((4, 6), 151, np.uint8),
    }
    path = tmp_path / "x.png"
    for said, pixels in bad.items():
        cv2.imwrite(str(path), pixels)
        with pytest.raises(UserError, match=said):
            layout.check_files({path: (4, 6)})
    path.unlink()
    with pytest.raises(UserError, match="is no PNG"):
        layout.check_files({path: (4, 6)})
