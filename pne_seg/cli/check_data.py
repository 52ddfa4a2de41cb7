"""check-data: decode every file of a data set, report on it, and draw what it holds."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pne_seg.cli.building import build_error, dropped_setting
from pne_seg.cli.failures import Failing, naming, report
from pne_seg.cli.parser import ALLOW_HELP, Parser
from pne_seg.cli.settings import Settings
from pne_seg.data import Folder, SegmentationDataModule
from pne_seg.data.inspection import SPLITS, Inspection, as_json, inspect, report_text
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.visualization import plot_label_histogram, save_figure, training_mosaic

FILES = ("report.txt", "report.json", "label_histogram.png", *(f"mosaic_{s}.png" for s in SPLITS))
"""What is written; a folder that holds nothing else is one of an earlier report, and replaced."""

_OUTPUTS = Path("data_check")
_DESCRIPTION = """\
Decode every file of a data set and report on it; the data are left as they are. Of a --config only
`data` is read. `check-data DIR` is short for --data Folder --data.root DIR. Exit code 1 where there
are errors."""


def run(args: Sequence[str]) -> None:
    """Check a data set and print the report.

    Args:
        args: as on the command line, without the verb.

    Raises:
        SystemExit: code 1 where the data have errors, 2 after a mistake in the input, which is
            printed in a few lines, 130 where the user stopped it.
    """
    try:
        ok = _check(args)
    except KeyboardInterrupt:
        print("Stopped; nothing is written.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        report(error, Failing("check-data"))
        raise
    if not ok:
        raise SystemExit(1)


def _check(args: Sequence[str]) -> bool:
    settings = _settings(args)
    parser = _parser()
    config = parser.parse(settings)
    if config.get("data") is None:
        raise UserError(
            "Missing: data. Give a --config file that sets it, --data CLASS, or a folder."
        )
    if dropped := dropped_setting({}, config.data.as_dict()):
        raise UserError(dropped)
    splits = _splits(config.splits)
    if config.processes is not None and config.processes < 1:
        raise UserError(f"--processes {config.processes}: expected a number, 1 or more.")
    try:
        with settings.enforced():
            data = parser.instantiate(config).data
    except Exception as error:
        if reason := build_error(error, {}):
            raise reason from error
        raise
    output = _output(config.output, data)
    data.prepare_data()  # downloads, where the settings ask for it
    inspection = inspect(data, splits, config.processes)
    text = report_text(inspection)
    content = json.dumps(as_json(inspection), indent=1, ensure_ascii=False) + "\n"
    # A program that reads the JSON must find nothing else there.
    sys.stdout.write(content if config.json == "-" else text)
    if config.json not in (None, "-"):
        with naming(Path(config.json)):
            write_bytes_atomically(config.json, content.encode())
    if output is not None:
        with naming(output):
            _write(output, text, content, inspection, data)
    return not inspection.of("error")


# ---- settings ----------------------------------------------------------------------------------


def _settings(args: Sequence[str]) -> Settings:
    args = list(args)
    if args and not args[0].startswith("-"):
        settings = Settings.of(args[1:])
        if settings.files or any(override.key == "data" for override in settings.overrides):
            raise UserError(
                f"{args[0]!r} belongs to no key. A folder alone is checked as --data Folder; with "
                "--config or --data give it as --data.root."
            )
        settings = Settings.of(["--data", "Folder", f"--data.root={args[0]}", *args[1:]])
    else:
        settings = Settings.of(args)
    settings.load()
    settings.config = {key: value for key, value in settings.config.items() if key == "data"}
    return settings


def _parser() -> Parser:
    parser = Parser(prog="cli.py check-data", description=_DESCRIPTION)
    parser.add_argument(
        "-c", "--config", action="config", help="YAML file; what is not `data` is ignored."
    )
    parser.add_argument("--allow", type=str | None, help=ALLOW_HELP)
    parser.add_argument(
        "--splits", type=str, default=",".join(SPLITS), help="Which to check, with commas between."
    )
    parser.add_argument(
        "--processes",
        type=int | None,
        default=None,
        help="How many decode at a time; all usable processors where not given.",
    )
    parser.add_argument(
        "--json", type=str | None, default=None, help="File for all findings, `-` for the screen."
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=str(_OUTPUTS / "DATA"),
        help="Folder for report and pictures, DATA being the data set's name; null for none.",
    )
    parser.add_lightning_class_args(
        SegmentationDataModule, "data", subclass_mode=True, required=False
    )
    return parser


def _splits(given: str) -> list[Any]:
    names = [name.strip(" '\"") for name in given.strip("[]").split(",")]
    for name in names:
        if name not in SPLITS:
            raise UserError(f"--splits {given}: {name!r} is none of {', '.join(SPLITS)}.")
    return names


def _output(given: str | None, data: SegmentationDataModule) -> Path | None:
    """The folder to write to; it is new, empty, or one of an earlier report."""
    if given is None:
        return None
    output = Path(given)
    if output == _OUTPUTS / "DATA":
        # Custom folders are told apart by their names.
        own = data.root.resolve().name.removesuffix(".zip") if isinstance(data, Folder) else ""
        output = _OUTPUTS / (own or type(data).__name__)
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file. Give a folder.")
    others = sorted({path.name for path in output.iterdir()} - {*FILES}) if output.is_dir() else []
    if others:
        raise UserError(
            f"--output {output} holds other files ({others[0]}). Give a new folder, or --output "
            "null for none."
        )
    return output


# ---- output ------------------------------------------------------------------------------------


def _write(
    output: Path,
    text: str,
    content: str,
    inspection: Inspection,
    data: SegmentationDataModule,
) -> None:
    """Report, label histogram, and a mosaic for each split that has labels."""
    for name in FILES:
        (output / name).unlink(missing_ok=True)  # there may be fewer pictures than last time
    write_bytes_atomically(output / "report.json", content.encode())
    write_bytes_atomically(output / "report.txt", text.encode())
    counted = inspection.counted
    if counted:
        figure = plot_label_histogram(
            data.class_names,
            {split: figures.pixels for split, figures in counted.items()},
            palette=data.palette,
            title=f"{inspection.data}: labeled pixels",
        )
        save_figure(figure, output / "label_histogram.png")
    for split, figures in counted.items():
        if figures.good:
            samples = [data.split(split).read(index) for index in figures.good]
            figure = training_mosaic(
                [sample.image for sample in samples],
                [sample.labels for sample in samples],
                class_names=data.class_names,
                palette=data.palette,
                ignore_index=data.ignore_index,
                title=f"{inspection.data}, {split}: {len(samples)} of {figures.images} images",
            )
            save_figure(figure, output / f"mosaic_{split}.png")
    print(f"Written to {output}", file=sys.stderr)
