"""models: which methods and encoders go together, with their numbers and how a config says it."""

import argparse
from collections.abc import Sequence
from typing import Literal, NoReturn

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.contrast.projection import Projection
from pne_seg.networks.catalogue import ENCODERS, METHODS, SHIPPED, Fit, Method, Misfit, describe

_EMBEDDING_DIM = 256  # of the contrast unless a config says otherwise

_COLUMNS = {
    "": 9,  # the method
    "parameters": 11,
    "FCN head": 9,
    "sides ÷": 7,
    "feature": 11,
    "logits": 6,
    "projection": 10,
}
"""Headers and least widths of the table."""

_LEGEND = """\
parameters  of the network, which is what is deployed
FCN head    parameters of the auxiliary head that trains beside it
sides ÷     must divide both sides of an image (≥224: smaller ones were refused)
feature     what enters the classifier and is projected for the contrast
logits      their stride; the training resizes them to the image
projection  parameters of the contrast's projection head, in training only"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report errors as the other commands do."""
        _fail(message.removeprefix("argument ").replace(": ", " ", 1))


def run(args: Sequence[str]) -> None:
    """Print the table.

    Args:
        args: as on the command line, without the verb.

    Raises:
        SystemExit: code 2 after an error in the input, which is printed in a few lines.
    """
    classes, encoders = _parse(args)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to fold the table to
    records: list[Fit | Misfit] = []
    try:
        with Console(stderr=True).status("Building the networks, without their weights …"):
            for encoder in encoders:
                records += [describe(method, encoder, classes) for method in METHODS]
    except ValueError as error:
        _fail(str(error))
    fits = [record for record in records if isinstance(record, Fit)]
    # Plain text throughout: rich would take the brackets of a message for its markup.
    if fits:
        console.print(f"Networks for {classes} classes", highlight=False)
        for i, encoder in enumerate(dict.fromkeys(fit.encoder for fit in fits)):
            rows = [fit for fit in fits if fit.encoder == encoder]
            console.print(_table(rows, with_header=not i))
            console.print()
        console.print(Text(_LEGEND))
    misfits: dict[str, list[str]] = {}
    for record in records:
        if isinstance(record, Misfit):
            line = f"  {record.method.name} on {{}}: {record.reason}."
            misfits.setdefault(line, []).append(record.encoder)
    if misfits:
        lines = [line.replace("{}", ", ".join(names)) for line, names in misfits.items()]
        console.print(Text("\nNot together:\n" + "\n".join(lines)), soft_wrap=True)
    if fits:
        console.print(Text("\nIn a config, under `model`:\n" + _configs(fits)), soft_wrap=True)


def _parse(args: Sequence[str]) -> tuple[int, list[str]]:
    """Read the number of classes and the encoders from the command line."""
    parser = _Parser(
        prog="cli.py models",
        description="Show which methods and encoders go together, with their numbers.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--classes", type=_class_count, default=150, metavar="N", help="default 150 (ADE20K)"
    )
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help="any of smp's, or timm's after tu-, in place of the paper's; may be repeated",
    )
    options, unknown = parser.parse_known_args(list(args))
    if unknown:
        from pne_seg.cli.mistakes import nearest  # it loads Lightning: only on the way to an error

        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            _fail(f"{unknown[0]!r} belongs to no option.")
        near = nearest(name, parser._option_string_actions)
        hint = f"The nearest is {near}." if near else "`--help` lists the settings."
        _fail(f"There is no setting {name}.\n  {hint}")
    return options.classes, list(dict.fromkeys(options.encoder or ENCODERS))


def _class_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 2 or more.")
    return int(text)


def projection_parameters(channels: int) -> int:
    """Count the parameters of the contrast's projection of a feature with that many channels."""
    with torch.device("meta"):
        projection = Projection(channels, _EMBEDDING_DIM)
    return sum(parameter.numel() for parameter in projection.parameters())


def _table(fits: Sequence[Fit], with_header: bool) -> Table:
    """Build the rows of one encoder; the columns stand under those of the table before."""
    name = Text(fits[0].encoder, style="bold")
    table = Table(box=None, show_header=with_header, title=name, title_justify="left")
    for header, width in _COLUMNS.items():
        justify: Literal["left", "right"] = "right" if header else "left"
        table.add_column(header, justify=justify, min_width=width, no_wrap=True)
    for fit in fits:
        table.add_row(
            fit.method.name,
            f"{fit.parameters:,}",
            f"{fit.auxiliary_parameters:,}" if fit.auxiliary_parameters else "–",
            f"{fit.divisor}" + (f" ≥{fit.smallest}" if fit.smallest > 64 else ""),
            f"{fit.feature_channels} at 1/{fit.feature_stride}",
            "1" if fit.output_stride == 1 else f"1/{fit.output_stride}",
            f"{projection_parameters(fit.feature_channels):,}",
        )
    return table


def _configs(fits: Sequence[Fit]) -> str:
    """Write each method's slot in YAML, once for encoders with the same settings."""
    groups: dict[tuple[Method, str], list[str]] = {}
    for fit in sorted(fits, key=lambda fit: fit.method.name):
        settings = fit.method.init_args(fit.encoder) | {"encoder_name": "NAME"}
        flow = ", ".join(f"{key}: {value}" for key, value in settings.items())
        groups.setdefault((fit.method, flow), []).append(fit.encoder)
    lines = []
    for (method, flow), encoders in groups.items():
        shipped = [SHIPPED[pair] for name in encoders if (pair := (method.name, name)) in SHIPPED]
        seen = f": configs/*_{', *_'.join(shipped)}.yaml" if shipped else ""
        slot = f"class_path: {method.class_path}, init_args: {{{flow}}}"
        lines.append(f"  # {method.name} on {', '.join(encoders)}{seen}")
        lines.append(f"  network: {{{slot.replace('NAME', encoders[0])}}}")
    return "\n".join(lines)


def _fail(message: str) -> NoReturn:
    from pne_seg.cli.parser import fail  # it loads Lightning: only on the way to an error

    fail(message)
