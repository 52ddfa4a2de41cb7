"""Zip files as the data sets come in."""

import zipfile
from pathlib import Path


def zip_tree(
    root: Path, archive: Path, top: str = "", compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    """Pack the files under `root` with entries for the folders, as `zip -r` does.

    Args:
        root: the folder to pack.
        archive: the file to write.
        top: the folder that all members lie in, such as `ADEChallengeData2016`; none if empty.
        compression: of the members.

    Returns:
        `archive`.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{top}/" if top else ""
    with zipfile.ZipFile(archive, "w", compression) as packed:
        if top:
            packed.writestr(zipfile.ZipInfo(prefix), b"")
        for path in sorted(root.rglob("*")):
            member = prefix + path.relative_to(root).as_posix()
            # a ZipInfo of its own: the date is fixed, so that equal trees give equal archives
            if path.is_dir():
                packed.writestr(zipfile.ZipInfo(f"{member}/"), b"")
            else:
                packed.writestr(zipfile.ZipInfo(member), path.read_bytes(), compression)
    return archive


def zip_coco_164k(tree: Path, folder: Path) -> tuple[Path, Path, Path]:
    """The three downloads of COCO-Stuff 164k from a tree that `write_coco_164k` made.

    Returns:
        `train2017.zip` and `val2017.zip` with members such as `train2017/000000000009.jpg`, and
        `stuffthingmaps_trainval2017.zip` with `train2017/….png` and `val2017/….png`.
    """
    images, annotations = tree / "images", tree / "annotations"
    return (
        zip_tree(images / "train2017", folder / "train2017.zip", "train2017", zipfile.ZIP_STORED),
        zip_tree(images / "val2017", folder / "val2017.zip", "val2017", zipfile.ZIP_STORED),
        zip_tree(annotations, folder / "stuffthingmaps_trainval2017.zip"),
    )
