"""Settings, classes and lists in other encodings than UTF-8: read by their mark, or refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pne_seg.cli.settings import read_config
from pne_seg.data import Folder
from pne_seg.data.classes import read_classes
from pne_seg.errors import UserError
from pne_seg.settings_files import decoded

MARKED = ["utf-8", "utf-8-sig", "utf-16"]
OTHER = {"latin-1": "0xe4", "cp1252": "0xe4", "mac-roman": "0x8a"}


@pytest.mark.parametrize("encoding", [*MARKED, "utf-16-mark-be"])
def test_a_mark_says_the_encoding(encoding: str) -> None:
    text = "a: Bäume\r\nb: 道\n"
    big = b"\xfe\xff" + text.encode("utf-16-be")
    content = big if encoding == "utf-16-mark-be" else text.encode(encoding)
    assert decoded(content, "file") == text


@pytest.mark.parametrize(
    ("content", "place"),
    [
        *(("x: 1\nname: Bäume\n".encode(name), f"{byte} in line 2, column 8")
          for name, byte in OTHER.items()),
        (b"\xef\xbb\xbfa: 1\n\nb\xff", "0xff in line 3, column 2"),
        ("a: 1\n".encode("utf-16-le"), "0x00 in line 1, column 2"),
        ("a".encode("utf-32"), "in line 1"),
        (b"\xff\xfea\x00b", "in line 1"),
    ],
)  # fmt: skip
def test_another_encoding_names_file_and_place(content: bytes, place: str) -> None:
    with pytest.raises(UserError, match=rf"^file is not UTF-8 text: byte .*{place}.*as UTF-8\.$"):
        decoded(content, "file")


@pytest.mark.parametrize("encoding", [*MARKED, *OTHER])
def test_each_file_that_a_user_writes(tmp_path: Path, encoding: str) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in ("bäume", "weg"):
            pixels = np.zeros((8, 8, 3) if kind == "images" else (8, 8), np.uint8)
            (tmp_path / kind / f"{name}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    texts = {
        "config.yaml": "name: bäume\n",
        "classes.yaml": "[weg, bäume]\n",
        "lists/train.txt": "bäume\n",
        "lists/val.txt": "weg\n",
        "pairs.csv": "image,mask,split\nimages/bäume.png,masks/bäume.png,train\n"
        "images/weg.png,masks/weg.png,val\n",
    }
    (tmp_path / "lists").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode(encoding))

    def lists() -> list[str]:
        data = Folder(tmp_path, classes=["a", "b"], split_lists="lists")
        return [data.split("train").name(0)]

    def pairs() -> list[str]:
        data = Folder(tmp_path, classes=["a", "b"], pairs_csv="pairs.csv")
        return [Path(data.split("train").name(0)).name]

    reads = {
        "config.yaml": lambda: [read_config(tmp_path / "config.yaml")["name"]],
        "classes.yaml": lambda: [read_classes(str(tmp_path / "classes.yaml")).names[1]],
        "train.txt": lists,
        "pairs.csv": pairs,
    }
    for name, read in reads.items():
        if encoding in MARKED:
            assert read() == ["bäume"], name
            continue
        said = rf"{name} is not UTF-8 text: byte {OTHER[encoding]} in line \d, column \d+\. Save it"
        with pytest.raises(UserError, match=said):
            read()
