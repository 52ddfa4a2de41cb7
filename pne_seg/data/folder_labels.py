"""How a folder's masks are read, from the settings: values, colors, or the labels of polygons."""

from collections.abc import Collection, Mapping

from pne_seg.data.classes import OwnClasses, distinct_colors
from pne_seg.data.label_formats import ColorLabels, IndexLabels, LabelFormat
from pne_seg.errors import DataError, Fix, UserError, nearest


def label_format(
    own: OwnClasses,
    ignore_values: list[int] | None,
    ignore_colors: list[list[int]] | None,
    reduce_zero_label: bool,
    mask_tolerance: int,
) -> LabelFormat:
    """Return how masks of these classes are read; the settings are those of `Folder`."""
    if own.colors is not None:
        if ignore_values is not None or reduce_zero_label:
            raise ValueError(
                "ignore_values and reduce_zero_label are for masks of values; the classes have "
                "colors: use ignore_colors."
            )
        ignored_colors = [(r, g, b) for r, g, b in ignore_colors or []]
        return ColorLabels(own.colors, ignored_colors, tolerance=mask_tolerance)
    if ignore_colors is not None:
        raise ValueError("ignore_colors needs a color for each class.")
    if reduce_zero_label and own.values is not None:
        raise ValueError("reduce_zero_label is for classes without values of their own.")
    values = own.values or tuple(range(reduce_zero_label, len(own.names) + reduce_zero_label))
    default = [255] if 255 not in values else []
    ignored = {*(default if ignore_values is None else ignore_values)}
    hint = "Correct the masks, or add the missing class to classes."
    if reduce_zero_label:
        ignored.add(0)
    takes = ["ignore_values"]
    if own.values is None and not reduce_zero_label:
        takes.append("reduce_zero_label")
    return IndexLabels(values, ignored, hint=hint, takes=takes, tolerance=mask_tolerance)


def polygon_classes(
    counts: Mapping[str, int],
    given: OwnClasses | None,
    background: str | None,
    ignored: Collection[str],
) -> tuple[OwnClasses, LabelFormat]:
    """Return the classes of drawn masks, and how these are read.

    Args:
        counts: shapes of each label, which the masks hold as 1, 2 and so on; 0 is no shape.
        given: classes to choose by name; None takes all labels.
        background: class of pixels in no shape, the first one unless it is among the others; None
            leaves them without a class.
        ignored: labels whose pixels have no class.
    """
    values = {label: value for value, label in enumerate(counts, 1) if label not in ignored}
    if given is not None and given.values is not None:
        raise UserError(
            "classes gives values, which are for masks; labels of polygons have names only: pass "
            f"classes={list(given.names)}."
        )
    names = tuple(values) if given is None else given.names
    added = [] if background is None or background in names else [background]
    names = (*added, *names)
    for label in values:
        if label not in names and counts[label]:
            folded = {name.casefold(): name for name in names}
            meant = folded.get(nearest(label.casefold(), folded) or "")
            raise DataError(
                f"The label {label!r} ({counts[label]} shapes) is not in classes"
                f"{f'; did you mean {meant!r} there' if meant else ''}. Add it to classes",
                [Fix("to leave its pixels without a class", {"ignore_labels": [label]})],
            )
    index = {name: number for number, name in enumerate(names)}
    classes = {value: index[label] for label, value in values.items() if label in index}
    if background is not None:
        classes[0] = index[background]
    others = {*range(len(counts) + 1)} - classes.keys()
    colors = None
    if given is not None and given.colors is not None:
        colors = (*distinct_colors(len(added)), *given.colors)
    return OwnClasses(names, colors=colors), IndexLabels(classes, others)
