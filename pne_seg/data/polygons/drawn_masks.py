"""The folder of masks that are drawn of annotations once, and read as any others from then on."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image

from pne_seg.data.archives import exclusive
from pne_seg.data.base import usable_processors
from pne_seg.data.classes import distinct_colors
from pne_seg.data.data_file import DataFile, PlainFile
from pne_seg.data.decoding import displayed
from pne_seg.data.images import Pixels, read_info
from pne_seg.data.polygons.json_files import parse_json
from pne_seg.data.polygons.shapes import Annotations, Drawing, draw
from pne_seg.data.sources import composed
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

_FORM = "1"  # of what is drawn; another number draws everything again
_INDEX = "index.json"
_MOST_LABELS = 255
_COVERS_NOTHING = "they cover no pixel of the image"


class DrawnMasks:
    """Masks of JSON files in a folder of their own, below `place`, named by the files' content.

    A changed file gives another folder; those before it stay as they are, for runs that read them.
    In the masks 0 is no area, 1 the first label and so on. Files are parsed only if they are new:
    of known place, size and date, the folder is looked up.

    Args:
        place: folder for all drawings of a data set.
        files: the JSON files, each with the name that its masks lie under.
        read: adds the content of one file to what was found.
        smallest_on_top: whether larger areas are drawn first.
    """

    def __init__(
        self,
        place: Path,
        files: Mapping[DataFile, str],
        read: Callable[[DataFile, Any, Annotations], None],
        smallest_on_top: bool,
    ) -> None:
        self.counts: dict[str, int]  # shapes by label
        self._masks: dict[tuple[str, str], str]  # by the path of the JSON file and its image's name
        self._remarks: list[str]
        self.place = place
        self._smallest_on_top = smallest_on_top
        self._annotations: Annotations | None = None  # until they are drawn
        identity = _digest([_FORM, *(f"{name}\n{file.identity()}" for file, name in files.items())])
        self._seen = place / ".seen" / identity
        with suppress(OSError):
            self.folder = place / self._seen.read_text("utf-8").strip()
            self._load()
            return
        found, contents = Annotations(), [_FORM, str(smallest_on_top)]
        for file, name in files.items():
            data = file.read_bytes()
            contents += [file.relative, name, _digest([data])]
            read(file, parse_json(file, data), found)
        found.check_units()
        if not any(drawing.shapes for drawing in found.drawings):
            others = f" or the {len(files) - 1} other files" if len(files) > 1 else ""
            said = [f"{next(iter(files))}{others}: there is no area to draw.", *found.remarks()]
            raise UserError(f"{' '.join(said)} Annotate some images.")
        if len(found.labels) > _MOST_LABELS:
            raise UserError(
                f"{next(iter(files))}: {len(found.labels)} labels; 8-bit masks hold "
                f"{_MOST_LABELS}. Leave some out of the file."
            )
        self.folder = place / _digest(contents)
        self._annotations = found
        with suppress(OSError):
            self._load()
            return
        names = _mask_names(found.drawings, files)
        self._masks = {
            (str(drawing.source.relative), drawing.name): name
            for drawing, name in zip(found.drawings, names, strict=True)
        }
        self.counts = found.counts
        self._remarks = found.remarks()

    def _load(self) -> None:
        content = json.loads((self.folder / _INDEX).read_text("utf-8"))
        self.counts = content["labels"]
        self._masks = {(source, name): mask for source, name, mask in content["masks"]}
        self._remarks = content["remarks"]
        self._annotations = None

    @property
    def labels(self) -> dict[str, int]:
        """The value of each label in the masks."""
        return {label: number for number, label in enumerate(self.counts, 1)}

    def names(self, source: DataFile) -> list[str]:
        """Return what a JSON file calls its images."""
        return [name for relative, name in self._masks if relative == source.relative]

    def mask(self, source: DataFile, name: str) -> DataFile:
        """Return the mask of an image, which may not be drawn yet."""
        return PlainFile(str(self.folder), self._masks[source.relative, name])

    def draw(self, images: Mapping[str, DataFile]) -> None:
        """Draw what is not drawn yet; other processes wait.

        Args:
            images: by the path of the mask below its folder.
        """
        if self._annotations is not None:
            drawings = {
                self._masks[one.source.relative, one.name]: one
                for one in self._annotations.drawings
            }
            ready = {mask: (drawings[mask], image) for mask, image in images.items()}
            sizes = _sizes(ready)
            try:
                self.place.mkdir(parents=True, exist_ok=True)
                with exclusive(self.place / ".lock", f"draws masks into {self.place}"):
                    if not (self.folder / _INDEX).exists():
                        self._draw(ready, sizes, self._annotations)
                    self._seen.parent.mkdir(exist_ok=True)
                    write_bytes_atomically(self._seen, self.folder.name.encode())
                self._load()
            except OSError as error:
                raise UserError(
                    f"{error.filename or self.place}: masks drawn of the polygons cannot be "
                    f"written ({error.strerror}). Pass another folder as drawn_masks."
                ) from error
        for remark in self._remarks:
            rank_zero_info(f"{self.folder}: {remark}")

    def _draw(
        self,
        ready: Mapping[str, tuple[Drawing, DataFile]],
        sizes: Mapping[str, tuple[int, int]],
        found: Annotations,
    ) -> None:
        staging = self.place / f".{self.folder.name}.drawing"
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
        rank_zero_info(f"Drawing {len(ready)} masks of polygons into {self.folder}.")
        palette = [
            0,
            0,
            0,
            *(part for color in distinct_colors(len(self.labels)) for part in color),
        ]

        def one(mask: str) -> int:
            drawing, image = ready[mask]
            drawn, lost = draw(drawing, sizes[mask], self.labels, self._smallest_on_top)
            path = staging / mask
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, _as_displayed(drawn, image), palette)
            return lost

        try:
            staging.mkdir()
            with ThreadPoolExecutor(usable_processors()) as pool:
                for mask, lost in zip(ready, pool.map(one, ready), strict=True):
                    if lost:
                        found.leave_out(_COVERS_NOTHING, ready[mask][0], lost)
            index = {
                "labels": self.counts,
                "masks": [[*source, mask] for source, mask in self._masks.items()],
                "remarks": found.remarks(),
            }
            (staging / "SOURCE.txt").write_text(self._note(ready, found), "utf-8")
            (staging / _INDEX).write_text(json.dumps(index), "utf-8")
            staging.rename(self.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _note(self, ready: Mapping[str, tuple[Drawing, DataFile]], found: Annotations) -> str:
        sources = sorted({str(drawing.source) for drawing, _ in ready.values()})
        more = [f"  … and {len(sources) - 20} more"] if len(sources) > 20 else []
        values = [
            f"  {value} {label}" for label, value in {"(no polygon)": 0, **self.labels}.items()
        ]
        order = "larger areas first" if self._smallest_on_top else "in the order of the file"
        lines = [
            f"{len(ready)} masks, drawn by pne_seg of the polygons in",
            *(f"  {source}" for source in sources[:20]),
            *more,
            f"Areas are drawn {order}; later ones cover those before. Values:",
            *values,
            *found.remarks(),
            "This folder may be deleted: it is drawn again when it is needed.",
        ]
        return "\n".join(lines) + "\n"


def _mask_names(drawings: Iterable[Drawing], files: Mapping[DataFile, str]) -> list[str]:
    """Return a path for the mask of each drawing: that of its image, made safe and unique."""
    taken: set[str] = set()
    names = []
    for drawing in drawings:
        path = PurePosixPath(files[drawing.source], *path_parts(drawing.name))
        stem = str(path.with_suffix("")) if drawing.name != drawing.source.stem else str(path)
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(f"{name}.png")
    return names


def path_parts(name: str) -> list[str]:
    """Return the parts of a path that any system wrote, without those that lead elsewhere."""
    parts = composed(name).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]


def _sizes(
    ready: Mapping[str, tuple[Drawing, DataFile]],
) -> dict[str, tuple[int, int]]:
    """Return height and width that each mask is drawn at; refuse those that the image has not."""
    sizes: dict[str, tuple[int, int]] = {}
    wrong: list[str] = []
    for mask, (drawing, image) in ready.items():
        info = read_info(image)
        sizes[mask] = drawing.size or info.size
        # Some tools draw on the image as it is stored, whose EXIF data turn it for display.
        stored = info.size[::-1] if info.rotated else info.size
        if sizes[mask] not in (info.size, stored):
            (height, width), (real_height, real_width) = sizes[mask], info.size
            wrong.append(
                f"{drawing} is {width}×{height} there, but {image} is {real_width}×{real_height}"
            )
    if wrong:
        count = f" ({len(wrong)} such images in all)" if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0]}{count}. Polygons fit only the image that they were drawn on: put it back, "
            "or correct the size and the points."
        )
    return sizes


def _as_displayed(drawn: Pixels, image: DataFile) -> Pixels:
    info = read_info(image)
    return drawn if drawn.shape == info.size else displayed(image, drawn, info)


def _save(path: Path, mask: Pixels, palette: Sequence[int]) -> None:
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(palette)  # for looking at; the values stay
    image.save(path, "PNG", compress_level=3)


def _digest(parts: Iterable[str | bytes]) -> str:
    content = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        content.update(len(data).to_bytes(8, "little") + data)
    return content.hexdigest()
