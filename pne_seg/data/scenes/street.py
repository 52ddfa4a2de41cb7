"""The plan of a street: how wide its strips are, and what kind of place it leads through."""

from dataclasses import dataclass

from pne_seg.data.scenes.colours import LEAF, Colour
from pne_seg.data.scenes.dice import Dice

SIDES = (-1, 1)  # left and right of the road; x counts from its centre line


@dataclass(frozen=True)
class Street:
    """Widths and distances in metres; those of a side go by its sign."""

    town: str  # "city", "suburb" or "green"
    half: float  # of the road's width
    camera_x: float  # where the camera stands
    walks: dict[int, float]  # pavements
    verges: dict[int, float]  # grass between road and pavement; 0: none
    gardens: dict[int, float]  # between pavement and houses; 0: none
    leaf: Colour
    turf: Colour
    crossing: float  # how far ahead another road crosses; 0: none does

    def front(self, side: int) -> float:
        """From the centre line to the houses."""
        return self.half + self.walks[side] + self.verges[side] + self.gardens[side]


def random_street(dice: Dice) -> Street:
    """A random street."""
    town = dice.choice(("city", "city", "suburb", "suburb", "green"))
    half = dice.uniform(2.8, 4.2) if town != "city" else dice.uniform(3.2, 6.5)
    lane = dice.choice((0.45, 0.45, -0.4, 1.35 if dice.chance(0.4) else 0.2))
    walks = {side: dice.uniform(1.6, 3.8) for side in SIDES}
    verges = {side: dice.uniform(1.0, 3.0) * dice.chance(0.3) for side in SIDES}
    gardens = {side: dice.uniform(2, 6) * (town != "city" or dice.chance(0.15)) for side in SIDES}
    leaf = dice.choice(LEAF)
    return Street(
        town=town,
        half=half,
        camera_x=half * lane,
        walks=walks,
        verges=verges,
        gardens=gardens,
        leaf=leaf,
        turf=dice.jitter(leaf, 0.1),
        crossing=dice.uniform(16, 45) if dice.chance(0.35) else 0.0,
    )
