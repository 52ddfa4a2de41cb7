"""A data set's file that lies in memory."""

import io
from typing import Any, BinaryIO

import numpy.typing as npt
from PIL import Image

from pne_seg.data.data_file import DataFile


class Held(DataFile):
    """A file called `folder/held.bin`."""

    def __init__(self, content: bytes) -> None:
        self.relative = "folder/held.bin"
        self.content = content

    def read_bytes(self) -> bytes:
        return self.content

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)

    def identity(self) -> str:
        return str(hash(self.content))

    def __str__(self) -> str:
        return self.relative


def saved(image: Image.Image | npt.NDArray[Any], format: str, **options: Any) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, format, **options)
    return buffer.getvalue()
