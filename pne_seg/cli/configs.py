"""configs: list the shipped configs, or copy one to edit."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pne_seg.cli import fail, program
from pne_seg.cli.flag_parser import FlagParser
from pne_seg.errors import nearest
from pne_seg.settings_files import read_yaml
from pne_seg.shipped_configs import config_name, shipped_configs

_DESCRIPTION = "List the shipped configs, or copy one to edit. --config takes them by name."


def run(args: Sequence[str]) -> None:
    """Print the table of all configs, or write a copy of one."""
    given = build_parser().parse(args)
    configs = shipped_configs()
    if given.name is None:
        if given.output is not None:
            fail("--output is the file of a copy. Give the config's name too.")
        _list(configs)
        return
    name = config_name(Path(given.name))
    if name not in configs:
        near = nearest(name, configs)
        hint = f"The nearest is {near}." if near else f"`{program()} configs` lists them."
        fail(f"There is no shipped config {given.name}.\n  {hint}")
    content = configs[name].read_text(encoding="utf-8")
    if given.output == "-":
        sys.stdout.write(content)
        return
    file = Path(given.output or f"{Path(name).name}.yaml")
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(content)
    except FileExistsError:
        fail(f"{file} exists and is kept. Give another file: --output FILE.")
    except OSError as error:
        fail(f"{file} cannot be written ({error.strerror}). Give another file: --output FILE.")
    print(f"Written to {file}")


def build_parser() -> FlagParser:
    """Return the parser of the command."""
    parser = FlagParser("configs", _DESCRIPTION)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the config to copy")
    text = "of the copy, in place of NAME.yaml; - for the screen"
    parser.add_argument("--output", metavar="FILE", help=text)
    return parser


def _list(configs: dict[str, Path]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to fold the table to
    style: dict[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
    table = Table("config", "data", "network", "crop", "training", **style)
    overlays = Table("overlay", "to add as a second --config", **style)
    for name, file in configs.items():
        if name.startswith("overlays/"):
            overlays.add_row(name, _first_sentence(file))
        else:
            table.add_row(name, *_summary(read_yaml(file)))
    console.print(table)
    console.print()
    console.print(overlays)
    print(f"\nTo train: {program()} fit --config NAME\nTo edit a copy: {program()} configs NAME")


def _summary(config: dict[str, Any]) -> Iterable[str]:
    """Return data, network, crop and length of the training, as a config states them."""
    data, trainer = config["data"], config["trainer"]
    for slot in (data, config["model"]["network"]):
        yield slot["class_path"].rpartition(".")[2]
    yield "×".join(map(str, data["init_args"].get("crop_size") or ["whole"]))
    steps = trainer.get("max_steps")
    yield f"{steps / 1000:g}k steps" if steps else f"{trainer['max_epochs']} epochs"


def _first_sentence(file: Path) -> str:
    """Return the beginning of a file's comment."""
    comment = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return comment.partition(". ")[0].rstrip(".")
