"""models: which methods and encoders go together, with their numbers and how a config says it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.cli import fail, loading
from pne_seg.cli.flag_parser import FlagParser

if TYPE_CHECKING:
    from pne_seg.networks.catalogue import Fit, Method, Misfit

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


def build_parser() -> FlagParser:
    """Return the parser of the command."""
    parser = FlagParser(
        "models", "Show which methods and encoders go together, with their numbers."
    )
    add = parser.add_argument
    add("--classes", type=_class_count, default=150, metavar="N", help="default 150 (ADE20K)")
    text = "any of smp's, or timm's after tu-, in place of the paper's; may be repeated"
    add("--encoder", action="append", metavar="NAME", help=text)
    return parser


def run(args: Sequence[str]) -> None:
    """Print the table."""
    options = build_parser().parse(args)
    with loading():  # after --help and mistyped keys: it takes seconds
        from pne_seg.networks.catalogue import ENCODERS, METHODS, Fit, Misfit, describe

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to fold the table to
    encoders = dict.fromkeys(options.encoder or ENCODERS)
    try:
        with Console(stderr=True).status("Building the networks, without their weights …"):
            records = [
                describe(method, encoder, options.classes)
                for encoder in encoders
                for method in METHODS
            ]
    except ValueError as error:
        fail(str(error))
    fits = [record for record in records if isinstance(record, Fit)]
    misfits = [record for record in records if isinstance(record, Misfit)]
    # Plain text throughout: rich would take the brackets of a message for its markup.
    if fits:
        console.print(f"Networks for {options.classes} classes", highlight=False)
        for i, encoder in enumerate(dict.fromkeys(fit.encoder for fit in fits)):
            rows = [fit for fit in fits if fit.encoder == encoder]
            console.print(_table(rows, with_header=not i))
            console.print()
        console.print(Text(_LEGEND))
    if misfits:
        console.print(Text("\nNot together:\n" + _reasons(misfits)), soft_wrap=True)
    if fits:
        console.print(Text("\nIn a config, under `model`:\n" + _configs(fits)), soft_wrap=True)


def projection_parameters(channels: int) -> int:
    """Count the parameters of the contrast's projection of a feature with that many channels."""
    import torch

    from pne_seg.contrast.component import Projection

    with torch.device("meta"):
        projection = Projection(channels, _EMBEDDING_DIM)
    return sum(parameter.numel() for parameter in projection.parameters())


def _table(fits: Sequence["Fit"], with_header: bool) -> Table:
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


def _reasons(misfits: Sequence["Misfit"]) -> str:
    encoders: dict[tuple[str, str], list[str]] = {}
    for misfit in misfits:
        encoders.setdefault((misfit.method.name, misfit.reason), []).append(misfit.encoder)
    return "\n".join(
        f"  {method} on {', '.join(names)}: {reason}."
        for (method, reason), names in encoders.items()
    )


def _configs(fits: Sequence["Fit"]) -> str:
    """Write each method's slot in YAML, once for all encoders with the same settings."""
    from pne_seg.networks.catalogue import SHIPPED

    groups: dict[tuple[Method, str], list[str]] = {}
    for fit in sorted(fits, key=lambda fit: fit.method.name):
        settings = fit.method.init_args(fit.encoder) | {"encoder_name": "NAME"}
        config = {"class_path": fit.method.class_path, "init_args": settings}
        slot = yaml.safe_dump(config, default_flow_style=True, sort_keys=False, width=1000).strip()
        groups.setdefault((fit.method, slot), []).append(fit.encoder)
    lines = []
    for (method, slot), encoders in groups.items():
        shipped = [SHIPPED[pair] for name in encoders if (pair := (method.name, name)) in SHIPPED]
        seen = f": configs/*_{', *_'.join(shipped)}.yaml" if shipped else ""
        lines.append(f"  # {method.name} on {', '.join(encoders)}{seen}")
        lines.append(f"  network: {slot.replace('NAME', encoders[0])}")
    return "\n".join(lines)


def _class_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 2 or more.")
    return int(text)
