"""What is placed in any order and drawn from back to front."""

from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec

from pne_seg.data.scenes.stage import Stage

P = ParamSpec("P")


class DrawingQueue:
    """Things that wait until all are placed; the farthest is drawn first."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._waiting: list[tuple[float, Callable[[], None]]] = []

    def add(
        self,
        z: float,
        draw: Callable[Concatenate[Stage, P], None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have `draw(stage, ...)` called at its turn: z metres away."""
        self._waiting.append((z, partial(draw, self.stage, *args, **kwargs)))

    def draw(self) -> None:
        """Draw everything; of two things equally far, the one placed first."""
        for _, draw in sorted(self._waiting, key=lambda entry: -entry[0]):
            draw()
