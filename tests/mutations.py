"""Files as damage and malice make them: bytes and JSON values changed, the same ones each time."""

import json
import random
import zlib
from copy import deepcopy
from typing import Any

_EXTREMES = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 60_000, 2**20)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, -0.5, 2**45, 2**63, 10**30, 1e308, float("nan"), float("inf")),
    *("", "x", "any", "x" * 1000, [], [1], [[1, 2], 3], [10**9, 10**9], {}, {"a": 1}),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with up to twelve changes: bytes, extreme numbers, pieces lost or twice."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6, 12])):
        place = chance.randrange(len(changed))
        if chance.random() < 0.5:  # headers come first
            place = min(place, chance.randrange(200))
        kind = chance.random()
        if kind < 0.35:
            changed[place] = chance.randrange(256)
        elif kind < 0.5:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind < 0.75:
            size = chance.choice([2, 4])
            value = chance.choice(_EXTREMES) % 256**size
            changed[place : place + size] = value.to_bytes(size, chance.choice(["little", "big"]))
        elif kind < 0.85:
            del changed[place : place + chance.choice([1, 2, 8, 100])]
        elif kind < 0.95:
            changed[place:place] = changed[place : place + chance.choice([4, 12, 60])]
        else:
            del changed[place:]
        changed = changed or bytearray(1)
    return bytes(changed)


def with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that decoders go on."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        body = png[place + 4 : end]
        parts += [png[place : place + 4], body, zlib.crc32(body).to_bytes(4, "big")]
        place = end + 4
    return b"".join(parts)


def mutated_json(text: bytes, chance: random.Random) -> bytes:
    """The document with some of its values lost or replaced."""
    content = json.loads(text)
    for _ in range(chance.choice([1, 1, 2, 4])):
        places = [*_places(content)]
        if not places:
            break
        holder, key = chance.choice(places)
        if isinstance(holder, dict) and chance.random() < 0.15:
            del holder[key]
        else:
            holder[key] = deepcopy(chance.choice(_VALUES))
    return json.dumps(content).encode()


def _places(content: Any) -> Any:
    keys: Any = content if isinstance(content, dict) else range(len(content))
    for key in keys if isinstance(content, dict | list) else ():
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])
