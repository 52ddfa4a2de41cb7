"""The light of a scene: weather and hour."""

from dataclasses import dataclass

from pne_seg.data.scenes.colours import Colour
from pne_seg.data.scenes.dice import Dice


@dataclass(frozen=True)
class Light:
    """Weather and hour of a scene; colours are RGB up to 255, gains multiply surface colours."""

    sky_top: Colour
    sky_low: Colour
    gain: Colour
    haze: float  # extinction per metre
    shadow: float  # 0: none, 1: black
    clouds: float
    dusk: float  # 0: day, 1: lamps and windows lit
    sun: float = 0.0  # -1: from the left, 1: from the right
    reach: float = 1.0  # metres of shadow per metre of height

    def facing(self, normal: float) -> float:
        """Shade of a wall whose normal points right (1), left (-1) or to the camera (0)."""
        return 0.86 + 0.42 * self.shadow * self.sun * normal


_WEATHER: tuple[tuple[float, Light], ...] = (  # weight, light
    (0.34, Light((86, 142, 214), (190, 216, 238), (1.08, 1.06, 1.0), 0.004, 0.55, 0.8, 0.0)),
    (0.22, Light((168, 177, 188), (208, 212, 216), (0.86, 0.88, 0.92), 0.008, 0.12, 0.35, 0.0)),
    (0.16, Light((112, 148, 200), (250, 208, 152), (1.16, 0.98, 0.76), 0.008, 0.6, 0.7, 0.0)),
    (0.12, Light((40, 50, 96), (222, 138, 104), (0.44, 0.43, 0.56), 0.006, 0.1, 0.6, 1.0)),
    (0.08, Light((186, 191, 196), (204, 206, 208), (0.88, 0.89, 0.92), 0.034, 0.05, 0.1, 0.0)),
    (0.08, Light((104, 114, 128), (152, 158, 166), (0.6, 0.63, 0.68), 0.012, 0.08, 0.5, 0.4)),
)


def random_light(dice: Dice) -> Light:
    """A random hour and weather."""
    lot, total = dice.uniform(), 0.0
    for weight, pick in _WEATHER:  # noqa: B007 - the last one stands, should rounding leave a gap
        total += weight
        if lot < total:
            break
    exposure = dice.uniform(0.85, 1.12)
    red, green, blue = dice.jitter(pick.gain, 0.06)
    return Light(
        sky_top=dice.jitter(pick.sky_top, 0.12),
        sky_low=dice.jitter(pick.sky_low, 0.06),
        gain=(red * exposure, green * exposure, blue * exposure),
        haze=pick.haze * dice.uniform(0.6, 1.4),
        shadow=pick.shadow * dice.uniform(0.7, 1.1),
        clouds=pick.clouds * dice.uniform(),
        dusk=pick.dusk,
        sun=dice.choice((-1.0, 1.0)) * dice.uniform(0.35, 1.0),
        reach=dice.uniform(0.3, 1.1),
    )
