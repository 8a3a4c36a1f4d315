"""The set as a whole: no case twice, no file that is nobody's, and every document there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ..layouts import Layout
from ..records import MANIFEST, SPEC_KEYS
from .findings import Finding

__all__ = ["check_set", "record_fault"]

ROLES = ("image", "label", "instances", "sidecar")  # what every case has; a panel may have been left out


def record_fault(record: Mapping[str, Any]) -> str:
    """What a line of the manifest lacks to be the record of a case; empty where it lacks nothing."""
    files, hashes = record.get("files"), record.get("sha256")
    for key in ("scan", "source", "source_sha256"):
        if not isinstance(record.get(key), str):
            return f"no {key!r}"
    if not isinstance(record.get("lesions"), list):
        return "no 'lesions'"
    for key in SPEC_KEYS:
        if not all(isinstance(lesion, dict) and key in lesion for lesion in record["lesions"]):
            return f"a lesion without {key!r}"
    if not isinstance(files, dict) or not isinstance(hashes, dict):
        return "no 'files' with their 'sha256'"
    for role in {**dict.fromkeys(ROLES), **files}:
        if not isinstance(files.get(role), str):
            return f"no file {role!r}"
        if role != "sidecar" and not isinstance(hashes.get(role), str):
            return f"no sha256 of {role!r}"
    return ""


def check_set(layout: Layout, records: Sequence[Mapping[str, Any]], version: str | None) -> list[Finding]:
    """What is wrong with the set beyond its single cases.

    Args:
        layout: of the set.
        records: the manifest's, whole ones only.
        version: of the program that made the set; the content of documents is compared only with what this one writes.
    """
    found = _twice(records)
    documents = layout.documents(records)
    found += _strays(layout, {layout.root / path for record in records for path in record["files"].values()}, documents)
    for path, text in documents.items():
        name = path.relative_to(layout.root).as_posix()
        if not path.is_file():
            found.append(Finding(name, f"is missing: layout {layout.name} has it."))
        elif version == __version__ and not _says(path, text):
            found.append(Finding(name, "does not say what follows from the manifest."))
    return found


def _says(path: Path, text: str) -> bool:
    """Whether a document says at least what it should; people may add to a JSON, and write a readme of their own."""
    if path.suffix == ".tsv":
        return path.read_bytes() == text.encode()
    if path.suffix != ".json":
        return True
    try:
        content, expected = json.loads(path.read_bytes()), json.loads(text)
    except ValueError:
        return False
    if isinstance(content, dict) and isinstance(expected, dict):
        return all(key in content and content[key] == value for key, value in expected.items())
    return content == expected


def _twice(records: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Cases and files that occur more than once."""
    cases = Counter(record["case"] for record in records)
    found = [
        Finding(MANIFEST, f"tells of case {case!r} {count} times.", case) for case, count in cases.items() if count > 1
    ]
    owners: dict[str, set[str]] = {}
    for record in records:
        for path in record["files"].values():
            owners.setdefault(path, set()).add(record["case"])
    return found + [
        Finding(path, f"belongs to {len(names)} cases: {', '.join(sorted(names))}.")
        for path, names in owners.items()
        if len(names) > 1
    ]


def _strays(layout: Layout, known: set[Path], documents: Mapping[Path, str]) -> list[Finding]:
    """Files where cases' files lie that no case has; hidden ones are the desktop's, but for what a run leaves."""
    folders = [folder for folder in layout.case_folders() if folder.is_dir()]
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    files |= {path for path in layout.root.glob(".partial-*") if path.is_file()}
    found = []
    for path in sorted(files - known - documents.keys()):
        name = path.relative_to(layout.root).as_posix()
        if path.name.startswith(".partial-"):
            found.append(Finding(name, "was left unfinished by a run that was stopped."))
        elif not path.name.startswith("."):
            found.append(Finding(name, "belongs to no case of the manifest."))
    return found
