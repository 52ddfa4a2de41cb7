"""Seeded corruptions: `fit` stops at each, names the file and the mend, and changes no file."""

import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.cli.commands import TINY, command, contents, refused, write_config
from tests.data.miniature import write_ade20k, write_folder, write_full_ade20k, zip_tree
from tests.data.png_encoder import GRAY, SIGNATURE, chunk, header

ADE_IMAGES = "images/{}/*.jpg", "annotations/{}/*.png"
FOLDER_IMAGES = "{}/images/**/*.png", "{}/masks/**/*.png"


class Tree:
    """A data set in miniature, from which files are drawn by chance.

    Attributes:
        root: where it lies.
        chance: seeded by the test's own name, so that tests differ and repeat.
    """

    def __init__(self, root: Path, name: str, seed: str) -> None:
        self.root, self.name = root, name
        self.chance = random.Random(seed)
        if name == "ADE20K":
            write_ade20k(root)
            self.splits, patterns = ("training", "validation"), ADE_IMAGES
        else:
            write_folder(root, "split_first")
            self.splits, patterns = ("train", "val"), FOLDER_IMAGES
        self.patterns = dict(zip(("image", "labels"), patterns, strict=True))

    def all(self, kind: str, split: str) -> list[Path]:
        """The files of a split; kind is `image` or `labels`."""
        return sorted(self.root.glob(self.patterns[kind].format(split)))

    def draw(self, kind: str) -> Path:
        """One file of any split."""
        return self.chance.choice(self.all(kind, self.chance.choice(self.splits)))


def config(folder: Path, data: str, root: Path) -> Path:
    """A training of one epoch, which meets every image once."""
    settings: dict[str, Any] = yaml.safe_load(TINY)
    settings["data"] = {
        "class_path": data,
        "init_args": {
            "root": str(root),
            "crop_size": [32, 32],
            "resize_base": None,
            "batch_size": 1,
            "num_workers": 0,
        },
    }
    settings["trainer"]["default_root_dir"] = str(folder)
    return write_config(folder / "corrupt.yaml", settings)


def state(folder: Path) -> dict[str, Any]:
    """Content and times of every file and folder, links as they are."""
    times = {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    return {**times, **contents(folder)}


def check(
    tree: Tree, expected: list[str], early: bool, capsys: pytest.CaptureFixture[str], *more: object
) -> None:
    """`fit` must say all of `expected` and leave the tree alone."""
    work = tree.root.parent / "work"
    work.mkdir()
    before = state(tree.root)
    said = refused(capsys, "fit", "--config", config(work, tree.name, tree.root), *more)
    for part in expected:
        assert re.search(part, said), said
    assert state(tree.root) == before
    if early:
        assert not (work / "runs").exists()


@pytest.fixture(params=["ADE20K", "Folder"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree", request.param, request.node.name)


# ---- one file ----------------------------------------------------------------------------


def cut(path: Path, chance: random.Random) -> None:
    """Somewhere after the header."""
    data = path.read_bytes()
    header_end = data.find(b"IDAT") + 8 if path.suffix == ".png" else data.rfind(b"\xff\xda") + 2
    path.write_bytes(data[: chance.randrange(header_end, len(data))])


def cut_within_the_header(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(25)])


def flip(path: Path, chance: random.Random) -> None:
    """One bit of the pixels."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(data.find(b"IDAT") + 4, len(data) - 20)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def another_page(path: Path, chance: random.Random) -> None:
    """What a failed download leaves."""
    path.write_bytes(b"<html>404 Not Found</html>" * chance.randrange(1, 9))


def bomb(path: Path, chance: random.Random) -> None:
    """A header of 60,000×60,000 pixels."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".jpg":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = (60_000).to_bytes(2, "big") * 2
        path.write_bytes(data)
    else:
        parts = [header(60_000, 60_000, 8, GRAY), chunk(b"IDAT", bytes(9)), chunk(b"IEND", b"")]
        path.write_bytes(SIGNATURE + b"".join(parts))


def dangling(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def forbidden(path: Path, chance: random.Random) -> None:
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        return
    pytest.skip("nothing is closed to the superuser")


def out_of_range(path: Path, chance: random.Random) -> None:
    labels = np.array(Image.open(path))
    labels[chance.randrange(labels.shape[0]), chance.randrange(labels.shape[1])] = 177
    Image.fromarray(labels).save(path)


def of_another_size(path: Path, chance: random.Random) -> None:
    labels = np.array(Image.open(path))
    Image.fromarray(labels[chance.randrange(1, 9) :]).save(path)


def colored(path: Path, chance: random.Random) -> None:
    labels = np.array(Image.open(path))
    Image.fromarray(np.stack([labels, labels, 255 - labels], -1)).save(path)


def deep(path: Path, chance: random.Random) -> None:
    Image.fromarray(np.array(Image.open(path)).astype(np.uint16) + 256).save(path)


UNREADABLE = "not a readable image .*Fetch or save the file again"
CANNOT = "cannot be read .*Fetch it, or check its permissions"
FAULTS: dict[str, tuple[str, Callable[[Path, random.Random], None], str, bool]] = {
    "truncated image": ("image", cut, UNREADABLE, False),
    "truncated labels": ("labels", cut, UNREADABLE, False),
    "truncated header": ("image", cut_within_the_header, UNREADABLE, True),
    "flipped bit": ("labels", flip, UNREADABLE, False),
    "no image": ("image", another_page, UNREADABLE, True),
    "bomb in place of an image": ("image", bomb, "more pixels than are believed .*Cut", True),
    "bomb in place of labels": ("labels", bomb, "more pixels than are believed .*Cut", True),
    "dangling image": ("image", dangling, CANNOT, True),
    "dangling labels": ("labels", dangling, CANNOT, True),
    "forbidden": ("image", forbidden, CANNOT, True),
    "label out of range": (
        "labels",
        out_of_range,
        r"label 177 \(\d+ pixels?\) is no class: valid are .*(unpack|Correct|Add)",
        False,
    ),
    "another size": (
        "labels",
        of_another_size,
        r" is \(\d+, \d+\) \(height, width\), its image .*(Fetch both again|Make them match)",
        True,
    ),
    "colors": ("labels", colored, "one channel, this has 3 channels .*Convert it", True),
    "16 bits": (
        "labels",
        deep,
        "numbers from 0 to 255.*16 bits.*Save its class",
        True,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_file(fault: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    kind, damage, said, early = FAULTS[fault]
    path = tree.draw(kind)
    damage(path, tree.chance)
    check(tree, [rf"{re.escape(str(path))}\b.*{said}"], early, capsys)


@pytest.mark.parametrize("fault", ["truncated image", "label out of range"])
def test_one_file_in_a_worker_process(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path / "tree", "ADE20K", fault)
    kind, damage, said, early = FAULTS[fault]
    path = tree.draw(kind)
    damage(path, tree.chance)
    workers = ["--data.num_workers", 1]
    check(tree, [rf"{re.escape(str(path))}\b.*{said}"], early, capsys, *workers)


# ---- partners, splits --------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["image", "labels"])
def test_a_missing_partner(lost: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.draw(lost)
    path.unlink()
    said = rf"{re.escape(path.stem)}\.\w+ has no {lost} \(1 such files.*\)\. Expected"
    check(tree, [re.escape(str(tree.root)), said], True, capsys)


def test_a_folder_in_the_place_of_a_file(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.draw("labels")
    path.unlink()
    path.mkdir()
    check(tree, [rf"{re.escape(path.stem)}\.\w+ has no labels .*Expected"], True, capsys)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split(split: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tree.splits[split == "val"]
    inside = tree.root.rglob(f"{folder}/**/*" if tree.name == "Folder" else f"*/{folder}/*")
    for path in [path for path in inside if path.is_file()]:
        path.unlink()
    assert not tree.all("image", folder)
    check(tree, [rf"The {split} split of {tree.name} has no images"], True, capsys)


# ---- archives, packages ------------------------------------------------------------------


def test_an_archive_that_would_write_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path / "tree", "ADE20K", "zip")
    archive = zip_tree(tree.root, tmp_path / "zips" / "ade.zip", "ADEChallengeData2016")
    arguments = ["fit", "--config", str(config(tmp_path, "ADE20K", archive))]
    command(*arguments, "--trainer.fast_dev_run", "true")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("../../evil", b"x")
    before = state(tmp_path)
    said = refused(capsys, *arguments)
    assert re.search(r"ade\.zip: member '\.\./\.\./evil' .*outside.* Fetch the archive again", said)
    assert state(tmp_path) == before


def test_the_wrong_package_of_ade20k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_full_ade20k(tmp_path / "ade")
    before = state(tmp_path / "ade")
    said = refused(capsys, "fit", "--config", config(tmp_path, "ADE20K", root))
    assert f"{root} does not hold images/training" in said
    assert "It is the full ADE20K" in said
    assert re.search(r"Get http\S+ADEChallengeData2016\.zip .*as root", said)
    assert state(tmp_path / "ade") == before
    assert not (tmp_path / "runs").exists()


def test_what_is_not_damaged_is_trained_on_and_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree", "Folder", "sound")
    before = state(tree.root)
    command("fit", "--config", config(tmp_path, tree.name, tree.root))
    assert state(tree.root) == before
