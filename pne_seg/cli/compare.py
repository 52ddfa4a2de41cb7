"""compare: finished runs as arms and seeds, with the statistics of their differences."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pne_seg.cli import program
from pne_seg.cli.failures import naming
from pne_seg.cli.flag_parser import FlagParser
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.runs import Run

if TYPE_CHECKING:
    from pne_seg.sweep.comparison import Comparison
    from pne_seg.sweep.report import Disagreement

_DESCRIPTION = """\
Compare finished runs. Runs whose settings differ in the seed only form an arm, named by the
settings in which it differs; the first run's arm is the baseline. Arms are compared within seeds,
on the test split if all runs were tested (test --run DIR), else on the validation split."""


def run(args: Sequence[str]) -> None:
    """Print the comparison, and write it where `--output` says."""
    given = build_parser().parse(args)
    try:
        from pne_seg.sweep.comparison import Comparison, comparison_markdown
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scipy":
            raise
        raise UserError("compare needs scipy: pip install 'pne-seg[sweep]'.") from error
    from pne_seg.sweep.results import group_arms, read_results

    comparison = Comparison(group_arms(read_results(given.runs)))
    if given.output is not None:
        command = shlex.join([*program().split(), "compare", *map(str, given.runs)])
        write_comparison(comparison, given.output, "Comparison of runs", {}, command)
    sys.stdout.write(comparison_markdown(comparison))
    if given.output is not None:
        print(f"Written to {given.output}")


def build_parser() -> FlagParser:
    """Return the parser of the command."""
    parser = FlagParser("compare", _DESCRIPTION)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    text = "write report.html, comparison.md, comparison.csv and comparison.json there"
    parser.add_argument("--output", type=Path, metavar="DIR", help=text)
    return parser


def write_comparison(
    comparison: "Comparison",
    output: Path,
    title: str,
    resumed: Mapping[Path, Sequence[Path]],
    command: str,
) -> None:
    """Write `comparison.md`, `.csv`, `.json` and `report.html`.

    `resumed` holds, by run, those that it resumed, the oldest first; `command` repeats it.
    """
    from pne_seg.sweep.comparison import comparison_csv, comparison_json, comparison_markdown
    from pne_seg.sweep.report import report_html
    from pne_seg.sweep.results import validation_curve

    curves = {
        arm.name: [
            validation_curve([*resumed.get(run.folder, ()), run.folder])
            for run in arm.runs.values()
        ]
        for arm in comparison.arms
    }
    first = Run(next(iter(comparison.baseline.runs.values())).folder)
    environment = first.environment.read_text() if first.environment.is_file() else "unknown"
    pictures = _pictures(comparison)
    contents = {
        "comparison.md": comparison_markdown(comparison),
        "comparison.csv": comparison_csv(comparison),
        "comparison.json": comparison_json(comparison),
        "report.html": report_html(comparison, title, curves, pictures, command, environment),
    }
    with naming(output):
        output.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_bytes_atomically(output / name, content.encode())


def _pictures(comparison: "Comparison") -> "list[Disagreement]":
    """Predict the images on which arms disagree most; the page does without if that fails."""
    if comparison.split != "test":
        return []
    from pne_seg.sweep.report import largest_disagreements

    try:
        return largest_disagreements(comparison)
    except (UserError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        print(f"warning: the page shows no images on which arms disagree: {reason}")
        return []
