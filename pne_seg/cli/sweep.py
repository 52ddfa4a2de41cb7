"""sweep: arms times seeds, each cell trained and tested, and the comparison of the arms."""

import argparse
import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from pne_seg.cli import program
from pne_seg.cli.compare import write_comparison
from pne_seg.cli.flag_parser import FlagParser
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.runs import check_name
from pne_seg.shipped_configs import find_config

if TYPE_CHECKING:
    from pne_seg.sweep.arms import Search
    from pne_seg.sweep.cells import Cell
    from pne_seg.sweep.study import Queue, Sweep, TaskState

_DESCRIPTION = """\
Train and test arms with seeds, and compare them. A cell is an arm with a seed; its runs lie in
runs/NAME/ARM/seedK/. The same command resumes a sweep that was stopped; further ones, on this
machine or on others with the same --storage, work on it too. All other settings, such as
--trainer.max_epochs 20, go to every cell."""
_BEST = 5  # arms of a search that are compared with the baseline
_EXTRA = "sweep needs Optuna and scipy: pip install 'pne-seg[sweep]'."


def run(args: Sequence[str]) -> None:
    """Work on a sweep until all its cells are done; exit code 1 if one failed or is not done."""
    given, overrides = build_parser().parse_known_args(args)
    if code := _sweep(given, overrides, args):
        raise SystemExit(code)


def build_parser() -> FlagParser:
    """Return the parser of the command."""
    parser = FlagParser("sweep", _DESCRIPTION)
    add = parser.add_argument
    text = "file or shipped config of all cells; may be repeated"
    add("--config", action="append", type=find_config, default=[], help=text)
    add("--set", action="append", default=[], metavar="KEY=V1,V2", help="a setting's values")
    add("--arms", type=Path, metavar="FILE", help="YAML: arms by name, each with its settings")
    add("--search", type=Path, metavar="FILE", help="YAML: ranges by setting, for Optuna's TPE")
    add("--trials", type=int, default=20, metavar="N", help="arms of a search (default: 20)")
    add("--seeds", default="0,1,2", metavar="0,1,2", help="of every arm (default: 0,1,2)")
    add("--name", help="of the study (default: that of the first config)")
    add("--only", action="append", metavar="ARM", help="work on this arm; may be repeated")
    add("--jobs", type=int, default=1, metavar="N", help="cells at a time (default: 1)")
    add("--time-budget", type=float, metavar="HOURS", help="stop all cells after so long")
    add("--retry-failed", action="store_true", help="work on failed cells again")
    add("--dry-run", action="store_true", help="list the cells, and how long they may take")
    add("--status", action="store_true", help="show how far the sweep is, and leave")
    add("--storage", metavar="URL", help="database of the queue (default: a file in runs/NAME)")
    return parser


def _sweep(given: argparse.Namespace, overrides: list[str], args: Sequence[str]) -> int:
    try:
        import pne_seg.sweep.comparison  # noqa: F401  # needs scipy, at the end of hours of work
        from pne_seg.sweep.arms import Search
        from pne_seg.sweep.storage import naming_storage, without_password
        from pne_seg.sweep.study import Queue
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("optuna", "sqlalchemy", "scipy"):
            raise UserError(_EXTRA) from error
        if error.name == "fcntl":
            raise UserError("sweep runs on Linux and macOS only.") from error
        raise
    sweep = _plan(given, overrides)
    is_new = sweep.storage is None and not (sweep.folder / "study.db").is_file()
    if given.status and is_new:
        raise UserError(f"--status: there is no study in {sweep.folder} yet.")
    if given.dry_run and is_new:
        print(*sweep.describe(), sep="\n")
        return 0
    only_shows = given.status or given.dry_run
    with naming_storage(sweep.url):
        queue = Queue(sweep)
        if not only_shows:
            queue.fill(given.retry_failed)
            code = _work(queue, given.jobs, given.time_budget)
        states = queue.states()
        versions = queue.code_versions()
    Console().print(_status(sweep, states, given.jobs))
    if only_shows:
        return 0
    if len(versions) > 1:
        print(f"warning: cells were run by {len(versions)} versions of this package's code.")
    # The command is written into a page that others read.
    command = [*program().split(), "sweep", *map(without_password, args)]
    if isinstance(sweep, Search):
        _compare(sweep, sweep.trained_cells(states, _BEST), command)
        _recommend(sweep, states, command)
    elif not given.only:
        ended = {state.key for state in states if state.state == "done"}
        done = [cell for arm in sweep.arms for cell in sweep.cells_of(arm) if cell.key in ended]
        paired = {cell.seed for cell in done if cell.arm == sweep.arms[0]}
        _compare(sweep, [cell for cell in done if cell.seed in paired], command)
    return code or int(any(state.state not in ("done", "pruned") for state in states))


def _plan(given: argparse.Namespace, overrides: list[str]) -> "Sweep":
    from pne_seg.sweep.arms import BASELINE, Search, grid, read_arms, read_space
    from pne_seg.sweep.cells import ArmSettings
    from pne_seg.sweep.study import Sweep

    if not given.config:
        raise UserError("Missing: --config, the configuration of all cells.")
    if overrides and not overrides[0].startswith("-"):
        raise UserError(f"{overrides[0]}: expected settings as --KEY VALUE.")
    sources = [f"--{name}" for name in ("set", "arms", "search") if getattr(given, name)]
    if len(sources) > 1:
        raise UserError(f"{' and '.join(sources)} all name arms. Give one of them.")
    if given.search and given.only:
        raise UserError("--only names arms, and --search makes its own. Leave one out.")
    for name in ("jobs", "trials"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name} {getattr(given, name)}: expected 1 or more.")
    name = given.name or given.config[0].stem
    check_name(name)
    if given.search:
        arms = [ArmSettings(BASELINE, ())]
    else:
        arms = read_arms(given.arms) if given.arms else grid(given.set)
    names = [arm.name for arm in arms]
    if unknown := [only for only in given.only or () if only not in names]:
        raise UserError(f"--only {unknown[0]}: no such arm. There are {', '.join(names)}.")
    settings = Settings.of([*(f"--config={path}" for path in given.config), *overrides])
    settings.load()
    common: dict[str, Any] = {
        "name": name,
        "root": settings.root,
        "arms": [arm for arm in arms if not given.only or arm.name in given.only],
        "seeds": _seeds(given.seeds),
        "configs": given.config,
        "overrides": overrides,
        "storage": given.storage,
    }
    if given.search:
        return Search(**common, space=read_space(given.search), num_trials=given.trials)
    return Sweep(**common)


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds {text}: expected different whole numbers, as 0,1,2.")
    return seeds


def _work(queue: "Queue", jobs: int, time_budget: float | None) -> int:
    """Run cells; on a signal or at the end of the budget they stop after their present steps."""
    from pne_seg.metrics import percent
    from pne_seg.sweep.cells import kill_running, make_workers

    stop = threading.Event()
    received: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        if received:
            kill_running()
            return
        received.append(number)
        print("Stopping; the cells save their state. Once more to leave at once.", file=sys.stderr)
        stop.set()

    console = Console(highlight=False, soft_wrap=True)

    def finished(state: "TaskState") -> None:
        value = f" {percent(state.value)}" if state.value is not None else ""
        console.print(f"{state.key}: {state.state}{value}", markup=False)
        if state.state == "failed":
            console.print(f"  {state.error}", markup=False)

    timer = threading.Timer(3600 * (time_budget or 0), stop.set)
    timer.daemon = True
    if time_budget is not None:
        timer.start()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in signals}
    live = Live(
        get_renderable=lambda: _status(queue.sweep, queue.states(), jobs),
        console=console,
        refresh_per_second=0.5,
        transient=True,
    )
    try:
        with live if console.is_terminal else contextlib.nullcontext():
            queue.work(make_workers(jobs, stop), finished)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        timer.cancel()
    return 128 + received[0] if received else 0


def _status(sweep: "Sweep", states: Sequence["TaskState"], jobs: int) -> Group:
    """Return what is done and the state of the rest, with a line on how long that may take."""
    from pne_seg.metrics import percent
    from pne_seg.sweep.arms import Search, as_argument, short_names

    is_search = isinstance(sweep, Search)
    if is_search:
        names = [*dict.fromkeys(name for state in states for name in state.params)]
        table = Table("arm", *short_names(names).values(), "seeds", "val mIoU", "state")
        for state in states:
            if state.state not in ("new", "waiting"):
                given = [state.params.get(name, "-") for name in names]
                chosen = [f"{v:.4g}" if isinstance(v, float) else as_argument(v) for v in given]
                values = state.seeds.values()
                miou = percent(mean(values)) if values else "-"
                table.add_row(state.key, *chosen, str(len(values)), miou, state.state)
    else:
        found = {state.key: state for state in states}
        table = Table("arm", *(f"seed {seed}" for seed in sweep.seeds))
        for arm in sweep.arms:
            cells = sweep.cells_of(arm)
            table.add_row(arm.name, *(_cell_text(found[c.key], c, sweep.root) for c in cells))
    ended = [state for state in states if state.value is not None]
    left = len(states) - len(ended)
    text = f"{len(ended)} of {len(states)} {'arms' if is_search else 'cells'} done"
    if ended and left:
        hours = mean(state.seconds for state in ended) * left / jobs / 3600
        text += f"; about {hours:.2g} hours left with {jobs} at a time"
    return Group(table, f"{text}.")


def _cell_text(state: "TaskState", cell: "Cell", root: Path) -> str:
    from pne_seg.metrics import percent

    if state.value is not None:
        return percent(state.value)
    if state.state == "running":
        miou = cell.latest_miou(root)
        return "running" if miou is None else f"running, val {percent(miou)}"
    return "waiting" if state.state == "new" else state.state


def _recommend(search: "Search", states: Sequence["TaskState"], command: Sequence[str]) -> None:
    """Print how the best arm of a search is confirmed."""
    file = search.write_best(states)
    if file is None:
        if sum(state.value is not None for state in states) > 1:
            print("No arm is better than the baseline: there is nothing to confirm.")
        return
    fresh = ",".join(str(max(search.seeds) + 1 + number) for number in range(6))
    parts = ["--arms", str(file), "--seeds", fresh, "--name", f"{search.name}-confirmed"]
    line = shlex.join([*command[:3], *search.config_arguments, *parts, *search.overrides])
    print(f"The best of many looks better than it is. On fresh seeds and the test split:\n  {line}")


def _compare(sweep: "Sweep", cells: Sequence["Cell"], command: Sequence[str]) -> None:
    from pne_seg.sweep.comparison import Comparison, comparison_markdown
    from pne_seg.sweep.results import name_arms, read_results

    if len({cell.arm.name for cell in cells}) < 2:
        return
    finished = {cell: run.folder for cell in cells if (run := cell.finished(sweep.root))}
    names = [cell.arm.name for cell in finished]
    comparison = Comparison(name_arms(names, read_results([*finished.values()])))
    resumed = {
        folder: [run.folder for run in reversed(cell.runs(sweep.root)) if run.folder != folder]
        for cell, folder in finished.items()
    }
    write_comparison(comparison, sweep.folder, sweep.name, resumed, shlex.join(command))
    print(f"\n{comparison_markdown(comparison)}Written to {sweep.folder}")
