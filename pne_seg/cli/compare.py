"""compare: finished runs as arms and seeds, with the statistics of their differences."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pne_seg.cli.failures import Failing, naming, report
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

if TYPE_CHECKING:
    from pne_seg.sweep.comparison import Comparison

_DESCRIPTION = """\
Compare finished runs. Runs whose settings differ in the seed only form an arm, named by the
settings in which it differs; the first run's arm is the baseline. Arms are compared within seeds,
on the test split if all runs were tested (test --run DIR), else on the validation split."""


def run(args: Sequence[str]) -> None:
    """Print the comparison, and write it where `--output` says.

    Args:
        args: as on the command line, without the verb.

    Raises:
        SystemExit: code 2 after a mistake in the input, which is printed in a few lines.
    """
    parser = argparse.ArgumentParser(
        "cli.py compare",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write comparison.md, comparison.csv and comparison.json there",
    )
    given = parser.parse_args(args)
    try:
        _compare(given.runs, given.output)
    except Exception as error:
        report(error, Failing("compare", elsewhere="--output DIR"))
        raise


def _compare(runs: Sequence[Path], output: Path | None) -> None:
    try:
        # The only part of the package that needs scipy.
        from pne_seg.sweep.comparison import Comparison
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scipy":
            raise
        raise UserError("compare needs scipy: pip install 'pne-seg[sweep]'.") from error
    from pne_seg.sweep.results import group_arms, read_results

    _print(Comparison(group_arms(read_results(runs))), output)


def write_comparison(arms: Mapping[str, Sequence[Path]], output: Path) -> None:
    """Compare the runs of named arms, the baseline first; print the tables and write them."""
    from pne_seg.sweep.comparison import Comparison
    from pne_seg.sweep.results import name_arms, read_results

    results = read_results([folder for folders in arms.values() for folder in folders])
    names = [name for name, folders in arms.items() for _ in folders]
    _print(Comparison(name_arms(names, results)), output)


def _print(comparison: "Comparison", output: Path | None) -> None:
    from pne_seg.sweep.comparison import comparison_csv, comparison_json, comparison_markdown

    text = comparison_markdown(comparison)
    if output is not None:
        files = {
            "md": text,
            "csv": comparison_csv(comparison),
            "json": comparison_json(comparison),
        }
        with naming(output):
            output.mkdir(parents=True, exist_ok=True)
            for suffix, content in files.items():
                write_bytes_atomically(output / f"comparison.{suffix}", content.encode())
    sys.stdout.write(text)
    if output is not None:
        print(f"Written to {output}")
