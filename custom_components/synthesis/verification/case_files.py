"""A case's files: all there, unchanged, and its sidecar one that says the same as the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...backgrounds import BACKGROUNDS
from ...errors import InputError
from ...files import file_hash
from ..records import read_sidecar, record_of
from .findings import Finding

__all__ = ["check_files", "check_sidecar"]


def check_files(root: Path, record: Mapping[str, Any]) -> list[Finding]:
    """Files that are missing or not the recorded ones."""
    found = []
    for role, name in record["files"].items():
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            found.append(Finding(name, "lies outside the set.", record["case"]))
        elif not path.is_file():
            found.append(Finding(name, "is missing.", record["case"]))
        elif role in record["sha256"] and file_hash(path) != record["sha256"][role]:
            found.append(Finding(name, "has changed: its SHA-256 is not the recorded one.", record["case"]))
    return found


def check_sidecar(
    root: Path, record: Mapping[str, Any], version: str | None
) -> tuple[list[Finding], dict[str, Any] | None]:
    """What is wrong with a sidecar; its content where it is one, else None.

    Args:
        root: folder of the set.
        record: the case's line in the manifest.
        version: of the program that made the set.
    """
    name = record["files"]["sidecar"]
    if not (root / name).is_file():
        return [], None  # told with the other files that are missing
    try:
        sidecar = read_sidecar(root / name)
        told = record_of(sidecar, root / name, root)
    except InputError as error:
        return [Finding(name, str(error), record["case"])], None
    faults = []
    differing = sorted(key for key in told.keys() | record.keys() if told.get(key) != record.get(key))
    if differing:
        faults.append(f"disagrees with the manifest about {', '.join(differing)}.")
    if sidecar.get("synthetic") is not True:
        faults.append("does not say that the scan is synthetic.")
    generator = sidecar.get("generator")
    made_by = generator.get("version") if isinstance(generator, dict) else None
    if not made_by:
        faults.append("does not tell the version it was made with.")
    elif version is not None and made_by != version:
        faults.append(f"was made with version {made_by}, the set with {version}.")
    background, difference = sidecar.get("background", "scan"), sidecar.get("max_abs_difference_outside_mask")
    if background not in BACKGROUNDS:
        faults.append(f"tells of a background {background!r}, which is neither {' nor '.join(BACKGROUNDS)}.")
    elif background == "scan" and difference != 0:
        faults.append("does not say that voxels outside the mask are unchanged.")
    return [Finding(name, sentence, record["case"]) for sentence in faults], sidecar
