"""Pictures small enough to travel inside a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..errors import InputError, first_line

__all__ = ["Picture", "embed"]

WIDTH = 720  # pixels: twice the width of a phone's screen, whose pixels are half as large
QUALITY = 72


class Picture(NamedTuple):
    """A data URI, and the picture's size in pixels."""

    uri: str
    width: int
    height: int


def embed(path: str | Path, max_bytes: int, width: int = WIDTH) -> Picture:
    """A picture file as WebP of at most ``width`` pixels across and ``max_bytes``, made smaller until it fits.

    Raises:
        InputError: where it cannot be read.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except OSError as error:
        raise InputError(f"cannot read picture {path}: {first_line(error)}.") from error
    width = min(width, picture.width)
    while True:
        # WebP holds at most 16383 pixels along a side.
        height = min(max(1, round(picture.height * width / picture.width)), 16383)
        stream = io.BytesIO()
        smaller = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
        smaller.save(stream, "WEBP", quality=QUALITY)
        if stream.tell() <= max_bytes or width <= 64:
            data = base64.b64encode(stream.getvalue()).decode()
            return Picture(f"data:image/webp;base64,{data}", width, height)
        width = max(64, int(width * 0.8))
