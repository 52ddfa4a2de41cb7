"""The configs that come with the package, by name; overlays are `overlays/NAME`."""

from pathlib import Path

_PACKAGED = Path(__file__).with_name("configs")
_CHECKOUT = Path(__file__).parents[1] / "configs"


def shipped_configs() -> dict[str, Path]:
    """Return the files by name, overlays last."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("overlays/*.yaml"))]
    return {config_name(file.relative_to(folder)): file for file in files}


def config_name(path: Path) -> str:
    """Return the name that a path would have among the shipped configs."""
    return path.as_posix().removesuffix(".yaml").removeprefix("configs/")


def find_config(given: str) -> Path:
    """Return the file that `given` means: the user's, or else the shipped config of that name.

    The user's file is `given` itself or, for a shipped config's name, also `given.yaml`: a copy of
    the config to edit. What is neither is returned as given.
    """
    path = Path(given)
    shipped = shipped_configs().get(config_name(path))
    if shipped is None:
        return path
    copy = path.with_suffix(".yaml")
    return next((file for file in (path, copy) if file.is_file()), shipped)
