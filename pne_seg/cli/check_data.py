"""check-data: decode every file of a data set, report on it, and draw some of its images."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pne_seg.cli import loading, program
from pne_seg.cli.arguments import ALLOW_HELP
from pne_seg.cli.failures import naming
from pne_seg.cli.help import class_help, print_text
from pne_seg.cli.messages import as_flags
from pne_seg.cli.mistyped import check_keys
from pne_seg.cli.parser import Parser
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

if TYPE_CHECKING:
    from pne_seg.data import SegmentationDataModule
    from pne_seg.data.inspection import Inspection
    from pne_seg.runs import Evaluated
    from pne_seg.suspects import SuspectSearch
    from pne_seg.trained import Trained

SPLITS = ("train", "val", "test")
FILES = (
    *("report.txt", "report.json", "label_histogram.png", "suspects.csv", "suspects.png"),
    *(f"mosaic_{split}.png" for split in SPLITS),
)
"""What is written; a folder that holds nothing else is one of an earlier report, and replaced."""

_OUTPUTS = Path("data_check")
_DESCRIPTION = """\
Decode every file of a data set and report on it; the data are left as they are. Of a --config only
`data` is read. `check-data DIR` is short for --data Folder --data.root DIR. With --run, labels that
its network contradicts are listed too. Exit code 1 where there are errors."""


def run(args: Sequence[str]) -> Path | None:
    """Check a data set, print the report and return the folder that it is in, if any.

    Exit code 1 if the data have errors.
    """
    (settings, weights), parser = _settings(args), build_parser()
    if any(override.key == "help" for override in settings.overrides):
        named = any(override.key == "data" for override in settings.overrides)
        if named and (text := class_help("check-data", "data", settings.get("data"))):
            print_text(text)
            return None
        parser.add_argument("--data", help="Class of the data set; its settings are --data.KEY.")
        parser.parse(settings)
    check_keys(settings, {"data", "suspects", *(action.dest for action in parser._actions)})
    if (given := settings.get("suspects")) is not None:
        if weights is None:
            raise UserError("--suspects needs a trained network. Give its run as --run.")
        if not isinstance(given, dict):
            raise UserError(f"--suspects {given}: expected a setting, as --suspects.min_width.")
    with loading():  # after --help and mistyped keys: Lightning's data modules take seconds
        from pne_seg.cli.checks import build_error, dropped_setting
        from pne_seg.data import SegmentationDataModule
        from pne_seg.data.inspection import as_json, inspect, report_text
        from pne_seg.suspects import SuspectSearch

    parser.add_subclass_arguments(
        SegmentationDataModule, "data", fail_untyped=False, required=False
    )
    parser.add_class_arguments(SuspectSearch, "suspects")
    config = parser.parse(settings)
    if config.get("data") is None:
        raise UserError(
            "Missing: data. Give a --config file that sets it, --data CLASS, or a folder."
        )
    if dropped := dropped_setting({}, config.data.as_dict()):
        raise UserError(dropped)
    splits: list[Any] = [name.strip(" '\"") for name in config.splits.strip("[]").split(",")]
    if unknown := [name for name in splits if name not in SPLITS]:
        known = ", ".join(SPLITS)
        raise UserError(f"--splits {config.splits}: {unknown[0]!r} is none of {known}.")
    if config.processes is not None and config.processes < 1:
        raise UserError(f"--processes {config.processes}: expected a number, 1 or more.")
    try:
        with settings.enforced():
            built = parser.instantiate(config)
    except Exception as error:
        if reason := build_error(error, {}):
            raise reason from error
        raise
    data, output = built.data, _output(config.output, built.data)
    trained = None if weights is None else _trained(weights, settings, data, output)
    data.prepare_data()  # downloads, where the settings ask for it
    inspection = inspect(data, splits, config.processes)
    text = report_text(inspection, as_flags)
    complete = report_text(inspection, as_flags, most_files=None)
    content = json.dumps(as_json(inspection, as_flags), indent=1, ensure_ascii=False) + "\n"
    # A program that reads the JSON must find nothing else there.
    sys.stdout.write(content if config.json == "-" else text)
    if config.json not in (None, "-"):
        with naming(Path(config.json)):
            write_bytes_atomically(config.json, content.encode())
    if output is not None:
        with naming(output):
            for name in FILES:
                (output / name).unlink(missing_ok=True)  # there may be fewer than last time
            write_bytes_atomically(output / "report.json", content.encode())
            write_bytes_atomically(output / "report.txt", complete.encode())
            with Console(stderr=True).status("Drawing label_histogram.png and mosaics …"):
                _draw(output, inspection, data)
            if trained is not None:
                _write_suspects(output, inspection, data, trained, built.suspects)
            print(f"Written to {output}", file=sys.stderr)
    if inspection.of("error"):
        raise SystemExit(1)
    return output


def _settings(args: Sequence[str]) -> "tuple[Settings, Evaluated | None]":
    """Return the settings of the data, and the weights that --run or --ckpt_path names."""
    folder, args = (args[0], args[1:]) if args and not args[0].startswith("-") else (None, args)
    settings = Settings.of(list(args))
    if folder is not None:
        if settings.files or any(override.key == "data" for override in settings.overrides):
            raise UserError(
                f"{folder!r} belongs to no key. A folder alone is checked as --data Folder; with "
                "--config or --data give it as --data.root."
            )
        settings = Settings.of(["--data", "Folder", f"--data.root={folder}", *args])
    weights = None
    if any(override.key in ("run", "ckpt_path") for override in settings.overrides):
        with loading():
            from pne_seg.cli.start import weights_to_score
        weights = weights_to_score(settings, lambda line: print(line, file=sys.stderr))
    else:
        settings.load()
    settings.config = {key: value for key, value in settings.config.items() if key == "data"}
    return settings, weights


def build_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(prog=f"{program()} check-data", description=_DESCRIPTION)
    parser.add_argument(
        "-c", "--config", action="config", help="YAML file; what is not `data` is ignored."
    )
    add = parser.add_argument
    text = "Run folder: its network looks for suspect labels, in its own data by default."
    add("--run", type=str | None, help=text)
    add("--ckpt_path", type=str | None, help="Checkpoint, in a run's folder, in place of the best.")
    add("--allow", type=str | None, help=ALLOW_HELP)
    add("--splits", type=str, default=",".join(SPLITS), help="Which to check, separated by commas.")
    add("--processes", type=int | None, help="How many decode at a time; all processors if null.")
    add("--json", type=str | None, help="File for all findings, `-` for the screen.")
    output = str(_OUTPUTS / "DATA")
    text = "Folder for report and pictures, DATA being the data set's name; null for none."
    add("--output", type=str | None, default=output, help=text)
    return parser


def _output(given: str | None, data: "SegmentationDataModule") -> Path | None:
    """Return the folder to write to; it is new, empty, or one of an earlier report."""
    if given is None:
        return None
    output = Path(given)
    if output == _OUTPUTS / "DATA":
        output = _OUTPUTS / data.display_name
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file. Give a folder.")
    others = sorted({path.name for path in output.iterdir()} - {*FILES}) if output.is_dir() else []
    if others:
        raise UserError(
            f"--output {output} holds other files ({others[0]}). Give a new folder, or --output "
            "null for none."
        )
    return output


def _draw(output: Path, inspection: "Inspection", data: "SegmentationDataModule") -> None:
    """Draw a label histogram, and a mosaic for each split that has labels."""
    from pne_seg.visualization import plot_label_histogram, save_figure, training_mosaic

    counted, description = inspection.counted, data.description
    if counted:
        pixels: dict[str, Any] = {split: figures.pixels for split, figures in counted.items()}
        title = f"{data.display_name} · labeled pixels"
        figure = plot_label_histogram(description, pixels, title=title)
        save_figure(figure, output / "label_histogram.png")
    for split, figures in counted.items():
        samples = [data.split(split).read(index) for index in figures.good]
        if samples:
            images = [sample.image for sample in samples]
            labels = [sample.labels for sample in samples]
            title = f"{data.display_name} · {split} · {len(samples)} of {figures.images} images"
            figure = training_mosaic(images, labels, description, title=title)
            save_figure(figure, output / f"mosaic_{split}.png")


def _trained(
    weights: "Evaluated", settings: Settings, data: "SegmentationDataModule", output: Path | None
) -> "Trained":
    """Load the network that looks for suspect labels."""
    from pne_seg.description import refuse_other_classes
    from pne_seg.trained import load_trained

    if output is None:
        raise UserError("--run writes suspects.csv, which --output null leaves no place for.")
    trained = load_trained(weights.file, imports=replace(settings.imports, own=False))
    refuse_other_classes(data.class_names, trained.data, weights.file)
    return trained


def _write_suspects(
    output: Path,
    inspection: "Inspection",
    data: "SegmentationDataModule",
    trained: "Trained",
    search: "SuspectSearch",
) -> None:
    """List the labels that a network contradicts, and draw the worst."""
    from pne_seg.label_check import find_suspects
    from pne_seg.visualization import save_figure, suspects_mosaic

    splits = list(inspection.counted)
    if not splits:
        raise UserError("No split has labels that --run could compare with its predictions.")
    worst, unreadable = find_suspects(data, trained, splits, search)
    write_bytes_atomically(output / "suspects.csv", worst.table())
    if crops := worst.crops():
        title = f"{data.display_name} · suspect labels"
        figure = suspects_mosaic(crops, data.description, title=title)
        save_figure(figure, output / "suspects.png")
    left_out = f" {unreadable} with errors were left out." if unreadable else ""
    print(f"{worst}{left_out}", file=sys.stderr)
