"""Config files with absurd values in any place, for commands that must refuse them in few lines."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

Config = dict[str, Any]
Place = tuple[str | int, ...]

VALUES = [
    *[None, True, False, 0, 1, -1, 2, 3, 7, 255, 256, 2**31, 2**63, 10**9, 10**20, -(10**20)],
    *[0.0, 0.5, -0.5, 1.5, 1e-30, 1e30, 1e308, float("nan"), float("inf"), float("-inf")],
    *["", " ", "x", "null", "3", "nan", "../..", "/", "a/b", "\0", "é", "x" * 300],
    *["torch.nn.Conv2d", "torch.optim.SGD", "Scenes", "PNE", "os.system", "tests.tiny_networks.TinyNet", "best"],
    *[[], [[]], [0], [1], [-1], [1, 2], [1, 2, 3], [1e30], [10**20] * 2, ["x"], [None], [0.5] * 2],
    *[{}, {"x": 1}, {"class_path": "x"}, {"class_path": 3}, {"class_path": None}, {"init_args": 3}],
    *[{"class_path": "torch.nn.Identity"}, {"class_path": "Scenes", "init_args": None}, {1: 2}],
]  # fmt: skip


WAITING = ("devices", "num_nodes")
"""Settings with which a command waits for processes that do not come."""


def places(config: Any, start: Place = ()) -> Iterator[Place]:
    """Every place in a config, the whole not counted."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        yield (*start, key)
        if isinstance(value, dict | list):
            yield from places(value, (*start, key))


def changed(config: Config, draw: Random) -> tuple[Config, str]:
    """A config with one or two values replaced or removed, and what was done."""
    result, said = copy.deepcopy(config), []
    for _ in range(draw.choice([1, 1, 1, 2])):
        place = draw.choice([place for place in places(result) if place[-1] not in WAITING])
        node: Any = result
        for key in place[:-1]:
            node = node[key]
        if draw.random() < 0.1:
            del node[place[-1]]
            said.append(f"{place} removed")
        else:
            node[place[-1]] = copy.deepcopy(draw.choice(VALUES))
            said.append(f"{place} = {str(node[place[-1]])[:60]!r}")
    return result, "; ".join(said)
