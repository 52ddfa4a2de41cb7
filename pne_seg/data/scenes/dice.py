"""Random numbers for the scenes: numbers, choices and colours, from one generator."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from pne_seg.data.scenes.colours import Colour

T = TypeVar("T")


class Dice:
    """Uniform draws from a generator, fetched in blocks: one by one they are slow."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._next = _numbers(generator).__next__

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._next() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._next() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._next() * len(options))]

    def jitter(self, colour: Colour, spread: float) -> Colour:
        """The colour, brighter or darker by up to `spread` and a little off in hue."""
        gain, tint = 1 + self.uniform(-spread, spread), self.uniform(-spread, spread) / 2
        red, green, blue = colour
        return (red * (gain + tint), green * gain, blue * (gain - tint))


def _numbers(generator: np.random.Generator) -> Iterator[float]:
    """Endless numbers in [0, 1)."""
    while True:
        yield from reversed(generator.random(512).tolist())
