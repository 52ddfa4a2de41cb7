"""Masks drawn of polygons: COCO and LabelMe JSON, read and drawn once into index images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.data_file import DataFile
from pne_seg.data.layouts import Place, folder_below, split_places
from pne_seg.data.paired_files import Pair
from pne_seg.data.polygons.coco import read_coco
from pne_seg.data.polygons.drawn_masks import DrawnMasks
from pne_seg.data.polygons.json_files import SUPPORTED
from pne_seg.data.polygons.labelme import read_labelme
from pne_seg.data.polygons.pairing import coco_pairs, find_coco
from pne_seg.data.sources import Tree, plain_path
from pne_seg.errors import UserError
from pne_seg.files import expanded


class PolygonMasks:
    """The masks of a folder's polygons.

    Args:
        root: folder or archive of the images.
        given: COCO file or folder of LabelMe files, below it.
        drawn_masks: folder for the masks; None chooses one beside `root`.
    """

    def __init__(self, root: Path, given: str, drawn_masks: Path | None) -> None:
        self.root = root
        self.given = given
        self.is_coco = given.lower().endswith(".json")
        beside = root.absolute()
        beside = beside.with_name(f"{beside.name.removesuffix('.zip')}_drawn_masks")
        self._place = beside if drawn_masks is None else Path(expanded(str(drawn_masks)))
        self._masks: DrawnMasks | None = None

    def place(self, images: Place, prefix: str, suffix: str) -> Place:
        """Return where the JSON files lie: of LabelMe by their names, of COCO no matter where."""
        if self.is_coco:
            return images
        return Place(plain_path(folder_below(self.root, self.given)), prefix, suffix, (".json",))

    @property
    def counts(self) -> dict[str, int]:
        """Shapes of each label, whose values in the masks are 1, 2 and so on."""
        return {} if self._masks is None else self._masks.counts

    def of_coco(self, tree: Tree, images: Place, whole: bool) -> dict[Split | None, list[Pair]]:
        """Return the images of each split, with their masks or None.

        Args:
            tree: where the images lie.
            images: where in it.
            whole: whether there are no splits of folders.
        """
        files = find_coco(tree, self.root, self.given)
        names = {file: "" if split is None else split for split, file in files.items()}
        self._masks = DrawnMasks(self._place, names, read_coco, smallest_on_top=True)
        places = {} if whole else split_places(tree, images, images)
        lying: dict[Split | None, tuple[Place, list[DataFile]]] = {
            split: (place, place.files(tree)) for split, (place, _) in places.items()
        }
        if not lying:
            lying[None] = images, images.files(tree)
        return coco_pairs(lying, files, self._masks)

    def of_labelme(
        self, pairs: Mapping[Split | None, list[Pair]]
    ) -> dict[Split | None, list[Pair]]:
        """Return images that are paired with JSON files, paired with their masks."""
        files = {
            pair.labels: pair.labels.relative.rpartition("/")[0]
            for part in pairs.values()
            for pair in part
            if pair.labels is not None
        }
        if not files:
            raise UserError(f"{self.root}: {self.given} has no JSON file of any image. {SUPPORTED}")
        masks = DrawnMasks(self._place, files, read_labelme, smallest_on_top=False)
        self._masks = masks
        return {
            split: [
                pair
                if pair.labels is None
                else replace(pair, labels=masks.mask(pair.labels, pair.labels.stem))
                for pair in part
            ]
            for split, part in pairs.items()
        }

    def draw(self, pairs: Mapping[Split | None, list[Pair]]) -> None:
        """Draw the masks of these images, unless it is done already; report what is left out."""
        assert self._masks is not None
        images: dict[str, DataFile] = {
            pair.labels.relative: pair.image
            for part in pairs.values()
            for pair in part
            if pair.labels is not None
        }
        self._masks.draw(images)
