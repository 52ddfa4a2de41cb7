"""What all plots share: axes of fixed sizes, fonts and colors, title and legends, the PNG file.

matplotlib is imported inside the functions, as it is slow to load and few commands draw. Fonts and
colors are set on the objects, so that the user's `rcParams` neither change nor show, and threads
may draw at the same time.
"""

import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pne_seg.files import save_atomically
from pne_seg.visualization.fonts import FONT, families, legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

BLACK = "#222222"
GRAY = "#6b6b6b"
LIGHT_GRAY = "#b5b5b5"
BLUE = "#2b6ca3"
VERMILION = "#d55e00"
DPI = 120
_MARGIN = 0.18  # inches around all that is drawn


def text_style(size: float, color: str = BLACK) -> dict[str, Any]:
    """Return font, size in points and color for matplotlib's calls that write a text."""
    return {"fontfamily": FONT, "fontsize": size, "color": color}


def wrap(text: str, width: float, size: float) -> str:
    """Break a text into lines of about `width` inches, in a font of `size` points."""
    return textwrap.fill(text, _letters(width, size))


def _letters(width: float, size: float) -> int:
    return max(1, int(width * 72 / (0.55 * size)))


def figure_with_axes(
    widths: Sequence[float], height: float, gap: float = 0
) -> tuple["Figure", Sequence["Axes"]]:
    """Make a row of axes of fixed sizes in inches, which fill the figure.

    Names, titles and legends lie outside, and `save_figure` grows the picture by them. So names of
    any length stay whole and do not squeeze the axes.
    """
    from matplotlib.figure import Figure

    figure = Figure((sum(widths) + gap * (len(widths) - 1), height), DPI, facecolor="white")
    figure.set_layout_engine("none")  # `rcParams` may ask for one
    edges = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": gap / np.mean(widths)}
    (row,) = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths, gridspec_kw=edges)
    for axes in row:
        axes.set_facecolor("white")
        for side, spine in axes.spines.items():
            spine.set(color=LIGHT_GRAY, linewidth=0.8, visible=side in ("left", "bottom"))
        axes.set_axisbelow(True)
        axes.grid(visible=True, color="#e3e3e3", linewidth=0.8, linestyle="-", alpha=1.0)
        style_ticks(axes, size=9)
    return figure, row


def style_ticks(axes: "Axes", size: float, length: float = 3.5) -> None:
    """Set the fonts and colors of the ticks."""
    font: Any = {"labelcolor": BLACK, "labelsize": size, "labelfontfamily": FONT}
    sides: Any = {"direction": "out", "top": False, "right": False}
    axes.tick_params(which="both", color=LIGHT_GRAY, length=length, **font, **sides)


def add_title(figure: "Figure", title: str) -> None:
    """Write a title above all that is drawn, in lines as wide as the figure."""
    width, height = figure.get_size_inches()
    top = (_drawn_box(figure).y1 + 0.16) / height
    title = wrap(title, max(width, 6), 13 * 1.2)  # bold letters are wider
    figure.text(0, top, title, ha="left", va="bottom", fontweight="bold", **text_style(13))


def add_legend(
    figure: "Figure",
    entries: Sequence[tuple[str, "Line2D | tuple[int, ...]"]],
    heading: str | None = None,
) -> None:
    """Write a legend of lines or colors in 0..255 below all that is drawn, as wide as it."""
    from matplotlib.patches import Patch

    if not entries:
        return
    width, height = figure.get_size_inches()
    # A legend leaves out what begins with an underscore.
    names = [wrap(f" {name}" if name.startswith("_") else name, width, 9) for name, _ in entries]
    longest = max(len(line) for name in names for line in name.split("\n"))
    legend = figure.legend(
        [
            Patch(facecolor="#{:02x}{:02x}{:02x}".format(*mark), edgecolor=LIGHT_GRAY, linewidth=1)
            if isinstance(mark, tuple)
            else mark
            for _, mark in entries
        ],
        names,
        loc="upper left",
        bbox_to_anchor=(0, (_drawn_box(figure).y0 - 0.16) / height),
        # The mark before a name and the space after it take as much as five letters.
        ncols=min(len(names), max(1, _letters(width, 9) // (longest + 5))),
        borderaxespad=0,
        borderpad=0,
        handlelength=1.4,
        handleheight=1.2,
        frameon=False,
        labelcolor=BLACK,
        prop={"family": FONT, "size": 9},
        alignment="left",
        title=heading,
        title_fontproperties={"family": FONT, "size": 10, "weight": "bold"},
    )
    legend.get_title().set_color(BLACK)


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Save a figure atomically as a PNG file, cropped to what is drawn; its folder is made."""
    from matplotlib.transforms import Bbox

    box = _drawn_box(figure).padded(_MARGIN).extents
    # At whole pixels, so that those of a mosaic are drawn one to one.
    crop = Bbox.from_extents(*np.floor(box[:2] * DPI) / DPI, *np.ceil(box[2:] * DPI) / DPI)
    options: dict[str, Any] = {
        "bbox_inches": crop,
        "dpi": DPI,
        "facecolor": "white",
        "transparent": False,
        "pil_kwargs": {"compress_level": 2},  # photographs hardly shrink further
    }
    save_atomically(path, lambda file: figure.savefig(file, format="png", **options))


def _drawn_box(figure: "Figure") -> "Bbox":
    """Return the box of all that is drawn, in inches from the figure's lower left corner."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set(parse_math=False, usetex=False)  # a dollar sign in a name is no formula
        if not (written := text.get_text()).isascii():
            text.set(text=legible(written), fontfamily=families(written))
    box: Bbox = figure.get_tightbbox()
    return box
