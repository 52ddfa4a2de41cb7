"""The manifest: what is there, what may be replaced, and what a kill at any time leaves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pne_seg.data.data_file import open_file
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.prediction.manifest import Manifest, Origin, digest, read_entries

NAME = Manifest.__module__
ORIGIN, OTHER = Origin("a.png", "0" * 32), Origin("a.png", "1" * 32)


def planned(folder: Path, origin: Origin = ORIGIN, overwrite: bool = False) -> Manifest:
    """The manifest of a command that writes `a` and `sub/b`."""
    manifest = Manifest(folder, overwrite=overwrite)
    manifest.plan({folder / "a": origin, folder / "sub" / "b": origin})
    return manifest


def content(text: str) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    return save


def test_what_is_there_is_not_planned_again(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "sub" / "b"
    manifest = planned(tmp_path)
    assert not [*tmp_path.iterdir()]  # a plan writes nothing
    manifest.put([a], content("1"))
    assert planned(tmp_path).plan({a: ORIGIN, b: ORIGIN}) == {b}
    again = planned(tmp_path)
    again.put([a], content("2"))
    again.put([b], content("2"))
    assert (a.read_text(), b.read_text()) == ("1", "2")
    assert read_entries(tmp_path / "predictions.json") == {"a": ORIGIN, "sub/b": ORIGIN}
    a.unlink()
    assert planned(tmp_path).plan({a: ORIGIN, b: ORIGIN}) == {a}


def test_what_another_command_wrote_before_the_plan_is_there(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "sub" / "b"
    manifest = Manifest(tmp_path)  # it hashes the images before it plans
    planned(tmp_path).put([a], content("1"))
    assert manifest.plan({a: ORIGIN, b: ORIGIN}) == {b}


def test_what_is_there_otherwise_is_refused_or_replaced(tmp_path: Path) -> None:
    a = tmp_path / "a"
    planned(tmp_path).put([a], content("1"))
    for other in (OTHER, replace(ORIGIN, source="b.png"), replace(ORIGIN, frames=3)):
        with pytest.raises(UserError, match="a is there, predicted from another source or by"):
            planned(tmp_path, other)
    planned(tmp_path, OTHER, overwrite=True).put([a], content("2"))
    assert a.read_text() == "2"
    assert Manifest(tmp_path).entries["a"] == OTHER


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_has_no_entry_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    manifest = planned(tmp_path, overwrite=overwrite)
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match="a is there and was not written by predict"):
        planned(tmp_path, overwrite=overwrite)
    failed = manifest.put([tmp_path / "a"], content("1"))
    assert "was written meanwhile" in failed[tmp_path / "a"]
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"predictions": {"a": 3}}', "[" * 10**5])
def test_another_programs_manifest_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions.json").write_text(text)
    with pytest.raises(UserError, match=r"predictions\.json is there and was not written by"):
        Manifest(tmp_path)


class Killed(BaseException):
    """Ends a command as a kill does: nothing is done after it."""


@pytest.mark.parametrize("steps", range(8))
def test_a_kill_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Whatever is there afterwards is what its entry says, and the same command completes it."""
    paths = [tmp_path / "a", tmp_path / "sub" / "b"]
    first = planned(tmp_path)
    for path in paths:
        first.put([path], content(ORIGIN.digest))
    done = 0

    def step(change: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal done
            done += 1
            if done > steps:
                raise Killed
            return change(*args, **kwargs)

        return counted

    def replace_both() -> None:
        killed = planned(tmp_path, OTHER, overwrite=True)
        for path in paths:
            killed.put([path], step(content(OTHER.digest)))
        raise Killed  # after everything

    with monkeypatch.context() as patched:
        patched.setattr(f"{NAME}.write_bytes_atomically", step(write_bytes_atomically))
        patched.setattr(Path, "unlink", step(Path.unlink))
        with pytest.raises(Killed):
            replace_both()
    entries = read_entries(tmp_path / "predictions.json")
    for path in paths:
        key = path.relative_to(tmp_path).as_posix()
        assert not path.exists() or path.read_text() == entries[key].digest
    again = planned(tmp_path, OTHER, overwrite=True)
    for path in paths:
        again.put([path], content(OTHER.digest))
        assert path.read_text() == OTHER.digest
    assert {*read_entries(tmp_path / "predictions.json").values()} == {OTHER}


def test_commands_that_share_a_folder(tmp_path: Path) -> None:
    origins = [Origin(f"{number}.png", "0" * 32) for number in range(40)]
    paths = [tmp_path / origin.source for origin in origins]

    def write(half: int) -> None:
        manifest = Manifest(tmp_path)
        manifest.plan(dict(zip(paths[half::2], origins[half::2], strict=True)))
        for start in range(half, len(paths), 6):
            assert not manifest.put(paths[start : start + 6 : 2], content("1"))

    with ThreadPoolExecutor(2) as commands:
        [*commands.map(write, range(2))]
    assert Manifest(tmp_path).plan(dict(zip(paths, origins, strict=True))) == set()


def test_the_second_of_two_commands_does_not_replace_the_firsts(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "sub" / "b"
    one, other = planned(tmp_path), planned(tmp_path, OTHER)
    one.put([a], content("1"))
    assert "a was written meanwhile by another command" in other.put([a], content("2"))[a]
    other.put([b], content("2"))
    assert "b was written meanwhile by another command" in one.put([b], content("1"))[b]
    entries = {"a": ORIGIN, "sub/b": OTHER}
    assert (a.read_text(), b.read_text()) == ("1", "2")
    assert read_entries(tmp_path / "predictions.json") == entries


def test_digests_tell_parts_apart(tmp_path: Path) -> None:
    parts: list[list[object]] = [
        ["a", "b"],
        ["ab"],
        ["a", "", "b"],
        ["b", "a"],
        ["a", "b", 1],
        ["a", "b", 11],
    ]
    assert len({digest(*given) for given in parts}) == len(parts)
    (tmp_path / "one").write_bytes(b"1" * 100_000)
    (tmp_path / "other").write_bytes(b"1" * 99_999 + b"2")
    (tmp_path / "copy").write_bytes(b"1" * 100_000)
    one, other, copy = (open_file(tmp_path / name).digest() for name in ("one", "other", "copy"))
    assert one == copy != other
