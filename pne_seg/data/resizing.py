"""The sizes that images are brought to."""

from collections.abc import Sequence


def fitted_size(size: Sequence[int], base: tuple[int, int], factor: float = 1.0) -> tuple[int, int]:
    """Size of an image that keeps its ratio and fits a box as closely as it can.

    As the field's codebases have it: the long side of the image goes with the long side of the box,
    so that a box of 2048×512 brings the short side to 512 unless the long one would pass 2048.

    Args:
        size: height and width of the image, in pixels.
        base: width and height of the box, in either order.
        factor: of the box, whose sides are then cut to whole pixels.

    Returns:
        Height and width, 1 or more.
    """
    longest, shortest = (int(side * factor) for side in (max(base), min(base)))
    scale = min(longest / max(size[:2]), shortest / min(size[:2]))
    height, width = (max(1, int(side * scale + 0.5)) for side in size[:2])
    return height, width
