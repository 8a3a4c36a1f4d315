"""Options of a request: clients send numbers as numbers or as text, and lists as JSON or separated by commas."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from custom_components.errors import InputError

__all__ = ["read_choice", "read_clicks", "read_number", "read_radii", "read_texture"]


def read_number(request: Mapping[str, Any], key: str, default: float, low: float, high: float) -> int:
    """A whole number of a request within limits.

    Raises:
        InputError: naming the key, for anything else.
    """
    number = _as_number(_given(request, key, default))
    if number is None or number != int(number) or not low <= number <= high:
        raise InputError(f"{key} must be a whole number from {low:g} to {high:g}, got {request.get(key)!r}.")
    return int(number)


def read_choice(request: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    """One of several words, the first where the request names none.

    Raises:
        InputError: for another word.
    """
    word = _given(request, key, choices[0])
    word = word[0] if isinstance(word, list) and word else word  # a client that leaves the list of choices as it is
    if word not in choices:
        raise InputError(f"{key} must be one of {', '.join(choices)}, got {word!r}.")
    return str(word)


def read_texture(request: Mapping[str, Any], classes: Sequence[str]) -> Any:
    """The texture request of a painting, in the form that the bundles take.

    ``textures``, one for each lesion from the feet to the head, takes precedence over ``texture``, and ``texture``
    over ``texture_CLASS``, one for each lesion class. Lists and dictionaries may come as JSON text; a list of names may
    also be separated by commas.

    Args:
        request: of the client.
        classes: the bundle's lesion classes.
    """
    for key in ("textures", "texture"):
        value = _from_text(_given(request, key, None))
        if value is not None:
            return [value] if key == "textures" and not isinstance(value, list) else value
    by_class = {name: _given(request, f"texture_{name}", None) for name in classes}
    if all(value is None for value in by_class.values()):
        return "random"
    return {name: "random" if value is None else _from_text(value) for name, value in by_class.items()}


def read_clicks(request: Mapping[str, Any]) -> list[list[float]]:
    """The foreground clicks of a request: voxel indices (i, j, k) of the image, one for each lesion.

    Raises:
        InputError: where there is none, one is not three finite numbers, or there are background clicks.
    """
    if _from_text(request.get("background")):
        raise InputError("background clicks mean nothing here: a foreground click is the centre of a lesion.")
    clicks = _from_text(request.get("foreground")) or []
    if isinstance(clicks, list) and len(clicks) == 3 and all(_as_number(value) is not None for value in clicks):
        clicks = [clicks]
    if not isinstance(clicks, list) or not clicks:
        raise InputError("foreground holds no click: click the centre of the lesion, [[i, j, k]] in voxels.")
    found = []
    for click in clicks:
        numbers = [_as_number(value) for value in click] if isinstance(click, list) else []
        if len(numbers) != 3 or None in numbers:
            raise InputError(f"a click must be three voxel indices [i, j, k], got {click!r}.")
        found.append([float(value) for value in numbers])
    return found


def read_radii(request: Mapping[str, Any], key: str, default: float, count: int) -> list[float]:
    """A radius in mm for each of ``count`` lesions: one number for all, or a list with one for each.

    Raises:
        InputError: for anything else; how large a radius may be is the bundle's to say.
    """
    value = _from_text(_given(request, key, default))
    values = value if isinstance(value, list) else [value] * count
    radii = [_as_number(entry) for entry in values]
    if None in radii or any(radius <= 0 for radius in radii):
        raise InputError(f"{key} must be above 0 mm, a number or one for each click, got {value!r}.")
    if len(radii) != count:
        raise InputError(f"{key} lists {len(radii)} numbers for {count} click{'s' * (count > 1)}.")
    return radii


def _given(request: Mapping[str, Any], key: str, default: Any) -> Any:
    """What a request says; an empty field of a form stands for the default."""
    value = request.get(key)
    return default if value is None or value == "" else value


def _as_number(value: Any) -> float | None:
    """A finite number, from text too; None for anything else."""
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and math.isfinite(number) else None


def _from_text(value: Any) -> Any:
    """What a text field stands for: JSON, a list separated by commas, or itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        parts = [part.strip() for part in value.split(",")]
        return parts if len(parts) > 1 else value.strip()
