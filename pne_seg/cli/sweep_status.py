"""How far a sweep is, as a table in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

if TYPE_CHECKING:
    from pne_seg.sweep.cells import Cell
    from pne_seg.sweep.study import Sweep, TaskState


def status_table(sweep: "Sweep", states: Sequence["TaskState"], jobs: int) -> Group:
    """Return what is done and the state of the rest, with a line on how long that may take.

    Args:
        sweep: whose tasks they are.
        states: of all tasks.
        jobs: tasks at a time.
    """
    from pne_seg.sweep.search import Search

    is_search = isinstance(sweep, Search)
    table = _arms_of_search(states) if is_search else _arms_by_seeds(sweep, states)
    ended = [state for state in states if state.value is not None]
    left = len(states) - len(ended)
    text = f"{len(ended)} of {len(states)} {'arms' if is_search else 'cells'} done"
    if ended and left:
        hours = mean(state.seconds for state in ended) * left / jobs / 3600
        text += f"; about {hours:.2g} hours left with {jobs} at a time"
    return Group(table, f"{text}.")


def _arms_by_seeds(sweep: "Sweep", states: Sequence["TaskState"]) -> Table:
    cells = {cell.key: cell for cell in sweep.cells}
    shown = {state.key: _cell_text(state, cells[state.key], sweep.root) for state in states}
    table = Table("arm", *(f"seed {seed}" for seed in sweep.seeds))
    for arm in sweep.arms:
        table.add_row(arm.name, *(shown[f"{arm.name}/seed{seed}"] for seed in sweep.seeds))
    return table


def _cell_text(state: "TaskState", cell: "Cell", root: Path) -> str:
    if state.value is not None:
        return f"{100 * state.value:.2f}"
    if state.state == "running":
        miou = cell.latest_miou(root)
        return "running" if miou is None else f"running, val {100 * miou:.2f}"
    return "waiting" if state.state == "new" else state.state


def _arms_of_search(states: Sequence["TaskState"]) -> Table:
    from pne_seg.sweep.arms import short_names

    names = [*dict.fromkeys(name for state in states for name in state.params)]
    table = Table("arm", *short_names(names).values(), "seeds", "val mIoU", "state")
    for state in states:
        if state.state in ("new", "waiting"):
            continue
        chosen = [_short(state.params.get(name, "-")) for name in names]
        values = state.seeds.values()
        miou = f"{100 * mean(values):.2f}" if values else "-"
        table.add_row(state.key, *chosen, str(len(values)), miou, state.state)
    return table


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)
