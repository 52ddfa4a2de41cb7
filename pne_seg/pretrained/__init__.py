"""Weights from anywhere: runs, files, exports, the Hugging Face hub, model zoos.

A source is located (`locating`), its tensors are read without running code (`reading`), and
brought under this project's names (`layouts`).
"""

from dataclasses import dataclass

from torch import Tensor

from pne_seg.pretrained.layouts import map_names
from pne_seg.pretrained.locating import locate
from pne_seg.pretrained.reading import read_tensors


@dataclass(frozen=True)
class Weights:
    """The tensors of a source.

    Attributes:
        source: as it was given.
        tensors: by name; those of another library by their names in `SegmentationModule`.
        library: whose names they were brought from; empty where they are as in the source.
        unknown: keys of that library that have no name here.
        averaged: whether a moving average was taken in place of the last weights.
    """

    source: str
    tensors: dict[str, Tensor]
    library: str
    unknown: tuple[str, ...]
    averaged: bool


def read_weights(source: str) -> Weights:
    """Read weights of this project, smp, mmsegmentation or transformers.

    Args:
        source: a file or folder (run, checkpoint, state dict, safetensors, export, saved network),
            `hf://OWNER/NAME[@REVISION][/FILE]`, or an http(s) address of a file.

    Raises:
        UserError: it cannot be had or read, or holds more than tensors and plain values.
    """
    mapped = map_names(read_tensors(locate(source), source))
    return Weights(source, mapped.tensors, mapped.library, tuple(mapped.unknown), mapped.averaged)
