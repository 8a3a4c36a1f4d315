"""The folder of a grid: the options it was begun with, and the revision of what works in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..files import check_writable
from .cells import write_record

__all__ = ["check_options", "claim", "revision"]

ROOT = Path(__file__).resolve().parents[2]


def check_options(work: Path, experiment: str, options: Mapping[str, Any]) -> bool:
    """Refuses options that would change the results of a grid that was begun with others.

    Returns:
        Whether the grid was begun, with these options.

    Raises:
        InputError: naming the first one.
    """
    path = _record(work, experiment)
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in json.loads(json.dumps(dict(options))).items():
        if path.is_file() and earlier.get(key) != value:
            told = "another content" if isinstance(value, dict) else f"{value!r}, before it was {earlier.get(key)!r}"
            raise InputError(
                f"{work} was begun with other options: {key} now has {told}; go on with those or choose another --work."
            )
    return path.is_file()


def claim(work: Path, experiment: str, options: Mapping[str, Any]) -> None:
    """Writes the options down where they are not yet.

    Raises:
        InputError: where the folder cannot be written to, or holds something else.
    """
    check_writable(work)
    path = _record(work, experiment)
    if path.is_file():
        return
    if work.is_dir() and not (work / "options").is_dir() and any(work.iterdir()):
        raise InputError(f"{work} is not empty and holds no grid: choose another --work.")
    write_record(path, options)


def _record(work: Path, experiment: str) -> Path:
    return work / "options" / f"{experiment}.json"


def revision() -> str:
    """The git revision of the code, with a mark where files have been changed; without git, the package's version."""
    try:
        found = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return found.stdout.strip() or __version__
