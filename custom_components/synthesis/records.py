"""What a synthetic data set says about itself: one line a case in ``manifest.jsonl``, drawn from the sidecars."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, first_line
from ..files import write_atomically

__all__ = [
    "MANIFEST",
    "RUN_FILE",
    "SPEC_KEYS",
    "read_manifest",
    "read_run",
    "read_sidecar",
    "record_of",
    "source_path",
    "write_manifest",
]

MANIFEST = "manifest.jsonl"
RUN_FILE = "synthesis.json"

# What the manifest repeats of each lesion's spec.
SPEC_KEYS = ("lesion", "lesion_class", "centre_mm", "radius_mm", "volume_mm3", "texture", "seed")


def record_of(sidecar: Mapping[str, Any], path: str | Path, root: str | Path) -> dict[str, Any]:
    """A case's line in the manifest.

    Args:
        sidecar: its content, with ``synthesis`` and ``files``.
        path: where the sidecar lies.
        root: folder of the set.

    Returns:
        ``case``, ``scan``, ``source`` (relative to the input), ``source_sha256``, ``background`` where it is not the
        scan's, ``files`` (role -> path relative to the root, the sidecar's among them), ``sha256`` (role -> hash of
        every file but the sidecar) and ``lesions``: of each, number, class, centre (RAS+ mm), radius (mm), volume
        (mm3), texture, seed and the distance between its requested and achieved histogram (None where no texture was
        asked for).

    Raises:
        InputError: where the sidecar lacks one of these.
    """
    try:
        origin, files = sidecar["synthesis"], sidecar["files"]
        return {
            "case": origin["case"],
            "scan": origin["scan"],
            "source": origin["source"],
            "source_sha256": sidecar["source"]["sha256"],
            **({} if sidecar.get("background", "scan") == "scan" else {"background": sidecar["background"]}),
            "files": {
                **{role: file["path"] for role, file in files.items()},
                "sidecar": Path(path).relative_to(root).as_posix(),
            },
            "sha256": {role: file["sha256"] for role, file in files.items()},
            "lesions": [
                {
                    **{key: lesion["spec"][key] for key in SPEC_KEYS},
                    "histogram_distance": lesion["histogram_distance"],
                }
                for lesion in sidecar["lesions"]
            ],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"sidecar {path} is not that of a synthetic case: it lacks {error}.") from error


def write_manifest(root: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes the cases' records, sorted by case, a line each; replaces what was there at once."""
    lines = [json.dumps(record) + "\n" for record in sorted(records, key=lambda record: record["case"])]
    write_atomically(Path(root) / MANIFEST, lambda path: path.write_text("".join(lines)))


def read_manifest(root: str | Path) -> list[dict[str, Any]]:
    """The records of a set, in the order of the file.

    Raises:
        InputError: where the manifest is missing, or a line of it is no record.
    """
    path = Path(str(root)) / MANIFEST
    if not path.is_file():
        raise InputError(f"{path.parent} is no synthetic data set: it holds no {MANIFEST}.")
    records = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"line {number} of {path} is no JSON: {error}.") from error
        if not isinstance(record, dict) or not isinstance(record.get("case"), str):
            raise InputError(f"line {number} of {path} is no record of a case.")
        records.append(record)
    return records


def source_path(origin: Path, record: Mapping[str, Any]) -> Path:
    """Where the source of a case lies: beside a datalist, below the input folder, or it is the input itself."""
    path = (origin.parent if origin.is_file() else origin) / record["source"]
    return origin if origin.name == record["source"] and not path.exists() else path


def read_run(root: str | Path) -> dict[str, Any]:
    """What ``synthesis.json`` tells of the command that made a set.

    Raises:
        InputError: where it is missing or no JSON object.
    """
    return _read_object(Path(str(root)) / RUN_FILE, "record of the run")


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """A case's sidecar.

    Raises:
        InputError: where it is missing or no JSON object.
    """
    return _read_object(Path(path), "sidecar")


def _read_object(path: Path, role: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{role} {path} does not exist.")
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{role} {path} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{role} {path} must hold a JSON object.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}.") from error
