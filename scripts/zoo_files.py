"""Which files of a bundle's folder are the bundle, and which were only left there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from custom_components.errors import InputError

__all__ = ["bundle_files"]

LEFT_BEHIND = {"outputs", "runs", "eval", "checkpoints", "__pycache__"}
LEFT_BEHIND_FILES = (".pyc", ".pyo", ".tmp", ".log")
EVENTS = "events.out.tfevents."


def bundle_files(root: Path) -> dict[str, Path]:
    """The files of a bundle, with the contents of linked folders in the links' place.

    In a checkout these are the files that git tracks. Elsewhere they are all files but hidden ones, caches and what
    runs write (outputs, runs, eval, checkpoints, TensorBoard events).

    Returns:
        The file for each name in the bundle, written with slashes, sorted by name.

    Raises:
        InputError: in a checkout, where a file is neither tracked nor ignored, or a tracked one is missing; where a
            link leads nowhere, into itself, or out of the checkout.
    """
    root = root.resolve()
    checkout = _checkout_of(root)
    found = dict(_walk(root, "", checkout, (root,)))
    return {name: found[name] for name in sorted(found)}


def _walk(folder: Path, prefix: str, checkout: Path | None, parents: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Names and files below a folder; ``parents`` are the folders that links have led through."""
    for name in _tracked(folder) if checkout else _present(folder):
        path = folder / name
        target = path.resolve()
        if not target.exists():
            raise InputError(f"{path} {'leads nowhere' if path.is_symlink() else 'is tracked by git, but missing'}.")
        if path.is_symlink() and checkout and not target.is_relative_to(checkout):
            raise InputError(f"{path} leads out of the checkout, to {target}.")
        if target.is_dir():
            if target in parents:
                raise InputError(f"{path} leads into itself.")
            yield from _walk(target, f"{prefix}{name}/", checkout, (*parents, target))
        else:
            yield prefix + name, target


def _present(folder: Path) -> list[str]:
    """Files and links to folders below a folder that runs and tools have not left behind."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_BEHIND and not name.startswith(".")]
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        kept = [n for n in files if not n.startswith((".", EVENTS)) and not n.endswith(LEFT_BEHIND_FILES)]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in (*linked, *kept)]
    return found


def _checkout_of(root: Path) -> Path | None:
    """The top of the checkout that tracks a bundle, or None."""
    try:
        if not _git(root, "ls-files", "-z", "configs/metadata.json"):
            return None
        return Path(_git(root, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None


def _tracked(folder: Path) -> list[str]:
    """What git tracks below a folder.

    Raises:
        InputError: for the first file that git neither tracks nor ignores: whether it belongs there is not known.
    """
    for name in _names(_git(folder, "ls-files", "-z", "--others", "--exclude-standard")):
        raise InputError(f"{folder / name} is neither tracked nor ignored by git: add it, or remove it.")
    return _names(_git(folder, "ls-files", "-z", "--cached"))


def _names(listing: str) -> list[str]:
    return [name for name in listing.split("\0") if name]


def _git(folder: Path, *arguments: str) -> str:
    process = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return process.stdout
