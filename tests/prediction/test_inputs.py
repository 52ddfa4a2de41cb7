"""What `--input` stands for: files, folders, globs; names; what is left out is said."""

from pathlib import Path

import pytest

from pne_seg.errors import UserError
from pne_seg.prediction.inputs import check_names, find_inputs
from pne_seg.prediction.manifest import Manifest, Origin


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.jpeg", "sub/deep/a.webp", "ride.MOV", "notes.txt",
                 ".hidden.jpg", "sub/.thumbs/x.jpg", "README"):  # fmt: skip
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return tmp_path / "photos"


def names(given: object) -> list[str]:
    return [source.name for source in find_inputs(str(given)).sources]


def test_a_folder_is_searched_to_its_depths(photos: Path) -> None:
    found = find_inputs(str(photos))
    assert names(photos) == ["a", "b", "ride", "sub/c", "sub/deep/a"]
    assert [source.is_video for source in found.sources] == [False, False, True, False, False]
    assert found.remarks == ["Left out: 2 other files (without extension, .txt)."]


def test_one_file(photos: Path) -> None:
    assert names(photos / "sub" / "c.jpeg") == ["c"]
    assert names(photos / "ride.MOV") == ["ride"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b"]),
        ("*", ["a", "b", "ride", "sub/c", "sub/deep/a"]),  # with what is in the folder `sub`
        ("s*", ["sub/c", "sub/deep/a"]),
        ("**", ["a", "b", "ride", "sub/c", "sub/deep/a"]),
        ("**/*.webp", ["sub/deep/a"]),
        ("*/*.jpeg", ["sub/c"]),
        ("[ab].*", ["a", "b"]),
    ],
)
def test_globs(photos: Path, pattern: str, expected: list[str]) -> None:
    assert names(photos / pattern) == expected


def test_a_name_with_brackets_is_a_name(photos: Path) -> None:
    (photos / "x[1].png").write_bytes(b"")
    (photos / "x1.png").write_bytes(b"")
    assert names(photos / "x[1].png") == ["x[1]"]


def test_files_that_differ_in_their_extension_keep_it(photos: Path) -> None:
    (photos / "b.tif").write_bytes(b"")
    (photos / "ride.mp4").write_bytes(b"")
    (photos / "a.avi").write_bytes(b"")  # no image: its frames lie in a folder of that name
    assert names(photos / "*.*") == ["a", "a", "b.jpg", "b.tif", "ride.MOV", "ride.mp4"]
    assert "b.jpg and b.tif differ in their extension only" in find_inputs(str(photos)).remarks[-1]


def test_names_that_cannot_be_told_apart(photos: Path) -> None:
    for name in ("b.png", "b.jpg.png"):
        (photos / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.jpg and .*b\.jpg\.png would be written under one"):
        find_inputs(str(photos))


def test_sources_of_one_name_are_told_apart_by_their_places() -> None:
    same = "a.jpg"
    check_names(["a", "b"], [same, same])
    with pytest.raises(UserError, match=r"a\.jpg and a\.jpg would be written under one name"):
        check_names(["a", "a"], [same, same])


def test_a_folder_called_like_a_wildcard(photos: Path) -> None:
    for folder in ("br[1]", "br1"):
        (photos / folder).mkdir()
        (photos / folder / f"{folder[-1]}.jpg").write_bytes(b"")
    assert names(photos / "br[1]" / "*.jpg") == ["]"]
    (photos / "br[1]" / "].jpg").unlink()
    (photos / "br[1]").rmdir()
    assert names(photos / "br[1]" / "*.jpg") == ["br1/1"]


def test_what_predict_wrote_is_no_input(photos: Path) -> None:
    folders = {photos / "out": None, photos / "zip": photos / "zip.predictions.json"}
    for folder, file in folders.items():
        path = folder / "classes" / "b.png"
        path.parent.mkdir(parents=True)
        manifest = Manifest(folder, file)
        manifest.plan({path: Origin("b.jpg", "0" * 32)})
        manifest.put([path], Path.touch)
        with pytest.raises(UserError, match="no image or video there"):
            names(path)
    (photos / "sub" / "predictions.json").write_text('{"of": "another program"}')
    assert names(photos) == ["a", "b", "ride", "sub/c", "sub/deep/a"]
    assert find_inputs(str(photos)).remarks[-1] == "Left out: 3 files that predict wrote."
    (photos / "out" / "classes" / "mine.png").touch()
    assert names(photos) == ["a", "b", "out/classes/mine", "ride", "sub/c", "sub/deep/a"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none", r"none: there is no such file or folder\. .*photos holds README, a\.PNG"),
        ("*.gif", r"\*\.gif: no image or video there\. Images are \.jpg.*videos \.mp4"),
        ("none/*.jpg", r"there is no folder .*none"),
        ("notes.txt", r"notes\.txt: no image or video there.*\n  Left out: 1 other file \(\.txt"),
    ],
)
def test_nothing_to_predict(photos: Path, given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_inputs(str(photos / given))
