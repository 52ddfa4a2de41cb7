"""Masks drawn of polygons: COCO and LabelMe JSON, read and drawn once into index images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.layouts import Place, folder_below, split_places
from pne_seg.data.paired_files import Pair, by_key
from pne_seg.data.polygons.drawn_masks import DrawnMasks
from pne_seg.data.polygons.pairing import coco_pairs, find_coco
from pne_seg.data.sources import Tree, plain_path
from pne_seg.errors import UserError
from pne_seg.files import expanded


class PolygonMasks:
    """The masks of a folder's polygons; `given` is a COCO file or folder of LabelMe's, below."""

    def __init__(self, root: Path, given: str, drawn_masks: Path | None) -> None:
        self.root = root
        self.given = given
        self.is_coco = given.lower().endswith(".json")
        beside = root.absolute()
        beside = beside.with_name(f"{beside.name.removesuffix('.zip')}_drawn_masks")
        self._place = beside if drawn_masks is None else Path(expanded(str(drawn_masks)))
        self._masks: DrawnMasks | None = None
        self.counts: dict[str, int] = {}  # shapes of each label, which the masks hold as 1, 2, …
        self._pairs: dict[Split | None, list[Pair]] = {}

    def place(self, images: Place, prefix: str, suffix: str) -> Place:
        """Return where the JSON files lie: of LabelMe by their names, of COCO no matter where."""
        if self.is_coco:
            return images
        return Place(plain_path(folder_below(self.root, self.given)), prefix, suffix, (".json",))

    def of_coco(self, tree: Tree, images: Place, whole: bool) -> dict[Split | None, list[Pair]]:
        """Return the images of each split of folders, or of None if `whole`, with their masks."""
        files = find_coco(tree, self.root, self.given)
        self._masks = DrawnMasks(self._place, [*files.values()], is_coco=True)
        parts: dict[Split | None, Place] = (
            {}
            if whole
            else {split: place for split, (place, _) in split_places(tree, images, images).items()}
        )
        lying = [
            (split, key, image)
            for split, place in (parts or {None: images}).items()
            for key, image in by_key(place.files(tree), place.key).items()
        ]
        self.counts = self._masks.counts
        self._pairs = coco_pairs(lying, files, self._masks)
        return self._pairs

    def of_labelme(
        self, pairs: Mapping[Split | None, list[Pair]]
    ) -> dict[Split | None, list[Pair]]:
        """Return images that are paired with JSON files, paired with their masks."""
        files = [pair.labels for part in pairs.values() for pair in part if pair.labels is not None]
        if not files:
            raise UserError(
                f"{self.root}: {self.given} has no JSON file of any image. polygons must be COCO's "
                "JSON file or the folder of LabelMe's."
            )
        self._masks = masks = DrawnMasks(self._place, files, is_coco=False)
        self.counts = masks.counts
        self._pairs = {
            split: [
                replace(pair, labels=pair.labels and masks.mask(pair.labels, pair.labels.relative))
                for pair in part
            ]
            for split, part in pairs.items()
        }
        return self._pairs

    def draw(self) -> None:
        """Draw the masks, unless it is done already; report what is left out."""
        assert self._masks is not None
        # Of all images, as a later start may take others of them.
        every = [pair for part in self._pairs.values() for pair in part]
        self._masks.draw({pair.labels: pair.image for pair in every if pair.labels is not None})
