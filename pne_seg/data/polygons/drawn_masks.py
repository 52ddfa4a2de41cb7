"""The folder of masks that are drawn of annotations once, and read as any others from then on."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image

from pne_seg.data.archives import exclusive
from pne_seg.data.base import usable_processors
from pne_seg.data.classes import distinct_colors
from pne_seg.data.data_file import DataFile, PlainFile
from pne_seg.data.decoding import displayed
from pne_seg.data.images import read_info
from pne_seg.data.polygons.coco import read_coco
from pne_seg.data.polygons.json_files import read_json, unsupported
from pne_seg.data.polygons.labelme import read_labelme
from pne_seg.data.polygons.shapes import Annotations, Drawing, draw
from pne_seg.data.sources import composed
from pne_seg.errors import UserError

_FORM = "1"  # of what is drawn; another number draws everything again
_INDEX = "index.json"


class DrawnMasks:
    """Masks of JSON files in a folder of their own, below `place`, named by the files' content.

    A changed file gives another folder; those before it stay as they are, for runs that read them.
    In the masks 0 is no area, 1 the first label and so on. Files are parsed only if they are new.
    COCO's larger areas are drawn first, LabelMe's as they come.
    """

    def __init__(self, place: Path, files: Sequence[DataFile], is_coco: bool) -> None:
        self.place = place
        self._is_coco = is_coco
        self._found: Annotations | None = None  # until they are drawn
        known = "\n".join([_FORM, *(f"{file.digest()} {file.relative}" for file in files)])
        self.folder = place / hashlib.blake2b(known.encode(), digest_size=8).hexdigest()
        with suppress(OSError):
            index = json.loads((self.folder / _INDEX).read_text("utf-8"))
            self.counts: dict[str, int] = index["labels"]  # shapes by label
            # By the path of the JSON file and the name there.
            self._masks = {(source, name): mask for source, name, mask in index["masks"]}
            self._remarks: list[str] = index["remarks"]
            return
        found = Annotations()
        for file in files:
            kind, content = read_json(file)
            if kind != ("COCO" if is_coco else "LabelMe"):
                raise unsupported(file, kind)
            (read_coco if is_coco else read_labelme)(file, content, found)
        found.check(f"{files[0]}{f' and {len(files) - 1} others' if len(files) > 1 else ''}")
        used = Counter(label for drawing in found.drawings for label, _ in drawing.shapes)
        self.counts = {label: used[label] for label in found.labels}
        self._found, self._masks = found, _mask_names(found.drawings)

    def names(self, source: DataFile) -> list[str]:
        """Return what a JSON file calls its images."""
        return [name for relative, name in self._masks if relative == source.relative]

    def mask(self, source: DataFile, name: str) -> DataFile:
        """Return the mask of an image, which may not be drawn yet."""
        return PlainFile(str(self.folder), self._masks[source.relative, name])

    def draw(self, images: Mapping[DataFile, DataFile]) -> None:
        """Draw all of these masks, each with its image, unless it is done; others wait."""
        if self._found is not None:
            try:
                self.place.mkdir(parents=True, exist_ok=True)
                with exclusive(self.place / ".lock", f"draws masks into {self.place}"):
                    if not (self.folder / _INDEX).exists():
                        self._draw({mask.relative: images[mask] for mask in images}, self._found)
            except OSError as error:
                raise UserError(
                    f"{error.filename or self.place}: masks drawn of the polygons cannot be "
                    f"written ({error.strerror}). Pass another folder as drawn_masks."
                ) from error
            self._remarks = json.loads((self.folder / _INDEX).read_text("utf-8"))["remarks"]
            self._found = None
        for remark in self._remarks:
            rank_zero_info(f"{self.folder}: {remark}")

    def _draw(self, images: Mapping[str, DataFile], found: Annotations) -> None:
        drawings = {self._masks[one.source.relative, one.name]: one for one in found.drawings}
        values = {label: value for value, label in enumerate(self.counts, 1)}
        colors = np.array([(0, 0, 0), *distinct_colors(len(values))], np.uint8).tobytes()
        staging = self.place / f".{self.folder.name}.drawing"
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed process

        def one(mask: str) -> int:
            drawing, image = drawings[mask], images[mask]
            info = read_info(image)
            size = drawing.size or info.size
            if size not in (info.size, info.size[::-1] if info.on_its_side else info.size):
                raise UserError(
                    f"{drawing} is {size[1]}×{size[0]} there, but {image} is {info.size[1]}×"
                    f"{info.size[0]}. Polygons fit only the image that they were drawn on: put it "
                    "back, or correct size and points."
                )
            drawn, lost = draw(drawing, size, values, smallest_on_top=self._is_coco)
            if size != info.size:  # drawn on the image as it is stored
                drawn = displayed(image, drawn, replace(info, format=""))
            (staging / mask).parent.mkdir(parents=True, exist_ok=True)
            saved = Image.fromarray(drawn)
            saved.putpalette(colors)  # for looking at; the values stay
            saved.save(staging / mask, "PNG", compress_level=3)
            return lost

        try:
            with ThreadPoolExecutor(usable_processors()) as pool:
                rank_zero_info(f"Drawing {len(images)} masks of polygons into {self.folder}.")
                staging.mkdir()
                for mask, lost in zip(images, pool.map(one, images), strict=True):
                    for _ in range(lost):
                        found.leave_out("they cover no pixel of the image", str(drawings[mask]))
            masks = [[*source, mask] for source, mask in self._masks.items()]
            index = {"labels": self.counts, "masks": masks, "remarks": found.remarks()}
            (staging / _INDEX).write_text(json.dumps(index), "utf-8")
            note = [
                f"{len(images)} masks, drawn by pne_seg of the polygons in",
                *sorted({f"  {drawing.source}" for drawing in found.drawings}),
                "Values:",
                *(f"  {value} {label}" for label, value in {"(no polygon)": 0, **values}.items()),
                *found.remarks(),
                "This folder may be deleted: it is drawn again when it is needed.\n",
            ]
            (staging / "SOURCE.txt").write_text("\n".join(note), "utf-8")
            staging.rename(self.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _mask_names(drawings: Sequence[Drawing]) -> dict[tuple[str, str], str]:
    """Return a path for the mask of each drawing: that of its image, made safe and unique."""
    names: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for drawing in drawings:
        stem = str(PurePosixPath(*(path_parts(drawing.name) or "_")).with_suffix(""))
        while stem.casefold() in taken:
            stem += "_"
        taken.add(stem.casefold())
        names[drawing.source.relative, drawing.name] = f"{stem}.png"
    return names


def path_parts(name: str) -> list[str]:
    """Return the parts of a path that any system wrote, without those that lead elsewhere."""
    parts = composed(name).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]
