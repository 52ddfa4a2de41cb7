"""Draw docs/images/evidence.svg: what PNE adds to the test mIoU, in one study per line.

    python -m tools.evidence_picture 'CamVid, continued=runs/continued' 'Scenes=runs/scenes' …

reads the `comparison.json` of each sweep and takes its arm `pne`.
"""

import argparse
import json
from pathlib import Path

from pne_seg.page.plots import Interval, color, forest_plot

OUTPUT = Path(__file__).parents[1] / "docs" / "images" / "evidence.svg"
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.tick { fill: #59636e; }
.grid { stroke: #d1d9e0; }
.zero { stroke: #59636e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .tick { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .zero { stroke: #9198a1; }
}
</style>"""


def main() -> None:
    """Draw the differences of the sweeps named on the command line, in their order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", metavar="TITLE=FOLDER")
    rows = [_row(*given.rsplit("=", 1)) for given in parser.parse_args().studies]
    plot = forest_plot(rows, "points of test mIoU, PNE minus cross-entropy", [color(0)])
    head, tail = plot.split(">", 1)
    OUTPUT.write_text(f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{tail}\n')


def _row(title: str, folder: str) -> Interval:
    found = json.loads((Path(folder) / "comparison.json").read_text())["differences"]
    (paired,) = (one["paired"] for one in found if (one["arm"], one["metric"]) == ("pne", "mIoU"))
    figures = (100 * paired[name] for name in ("mean", "low", "high"))
    return Interval(f"{title} ({paired['num_seeds']} seeds)", *figures)


if __name__ == "__main__":
    main()
