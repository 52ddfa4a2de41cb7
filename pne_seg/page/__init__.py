"""Pages that a browser shows: one file each, no network, light and dark, phone and desktop.

The templates beside this file escape every text that they are given; `frame.html` has the style.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def render(template: str, **values: Any) -> str:
    """Fill in a template of this folder."""
    return _environment().get_template(template).render(values)


def data_url(picture: npt.NDArray[np.uint8], kind: Literal["jpeg", "png"]) -> str:
    """Encode an (H, W, 3) picture for a page; JPEG would blur the colors of classes."""
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 85, "subsampling": 0} if kind == "jpeg" else {}
    Image.fromarray(picture).save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
