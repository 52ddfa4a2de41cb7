"""What every plot shares: a figure of a fixed size, colours and fonts, and the PNG file.

matplotlib is imported inside the functions, as it is slow to load and few commands draw; only its
object-oriented interface with the Agg canvas is used. Colours and fonts are set on the objects, so
that the user's `rcParams` neither change nor show, and threads may draw at the same time.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pne_seg.files import save_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"
INK = "#222222"
FAINT_INK = "#6b6b6b"
BLUE = "#2b6ca3"
VERMILION = "#d55e00"

_DPI = 120
_RULE = "#b5b5b5"
_GRID = "#e3e3e3"


def text_style(size: float, ink: str = INK) -> dict[str, Any]:
    """Font, size in points and colour, for matplotlib's calls that write a text."""
    return {"fontfamily": FONT, "fontsize": size, "color": ink}


def figure_with_axes(
    title: str,
    widths: Sequence[float],
    height: float,
    *,
    title_space: float,
    space: float = 0.0,
) -> tuple["Figure", list["Axes"]]:
    """Make a figure with axes of fixed widths and height, side by side under a title.

    All lengths are in inches: `title_space` lies between axes and title, `space` between axes.
    The picture is cropped to (or grown to) what is drawn when it is saved: names of any length
    stay whole, and do not squeeze the axes as a layout engine would.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    full_width = sum(widths) + space * (len(widths) - 1)
    full_height = height + title_space
    figure = Figure(figsize=(full_width, full_height), dpi=_DPI, facecolor="white")
    figure.set_layout_engine("none")  # `rcParams` may ask for one
    FigureCanvasAgg(figure)
    left = 0.0
    all_axes: list[Axes] = []
    for width in widths:
        box = (left / full_width, 0, width / full_width, height / full_height)
        axes = figure.add_axes(box, facecolor="white")
        _style(axes)
        all_axes.append(axes)
        left += width + space
    figure.text(0, 1, title, ha="left", va="bottom", fontweight="bold", **text_style(13))
    return figure, all_axes


def _style(axes: "Axes") -> None:
    for side, spine in axes.spines.items():
        spine.set(color=_RULE, linewidth=0.8, visible=side in ("left", "bottom"))
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_GRID, linewidth=0.8, linestyle="-", alpha=1.0)
    axes.tick_params(
        which="both",
        color=_RULE,
        labelcolor=INK,
        labelsize=9,
        labelfontfamily=FONT,
        direction="out",
        top=False,
        right=False,
    )


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Save a figure as a PNG file, cropped to what is drawn.

    Args:
        figure: from `figure_with_axes`; its texts are set to be shown as they are.
        path: the file; its folder is made where missing, an older file is replaced at once.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # A dollar sign in a class or file name is no formula.
        text.set_parse_math(False)
        text.set_usetex(False)
    save_atomically(
        path,
        lambda file: figure.savefig(
            file,
            format="png",
            dpi=_DPI,
            facecolor="white",
            transparent=False,
            bbox_inches="tight",
            pad_inches=0.18,
        ),
    )
