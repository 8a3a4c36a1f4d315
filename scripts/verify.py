"""Checks a synthetic data set against its own records and the scans it was made from."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from custom_components.errors import as_flag
from custom_components.synthesis.records import read_manifest
from custom_components.synthesis.verification import Finding, check_replay, verify_set


def verify(set_dir: str, source: str | None = None, replay: str | None = None, progress: bool = True) -> None:
    """Check a synthetic data set; exit code 0 where all is as recorded, 1 where something is not.

    Args:
        set_dir: folder that ``lefusion synthesize`` wrote.
        source: the input that the set was made from, where it lies elsewhere now.
        replay: a case to make again and compare byte for byte, in place of the other checks.
        progress: show a bar over the cases.

    Raises:
        InputError: where the folder is no synthetic data set, or has no such case.
    """
    if replay is None:
        found = verify_set(set_dir, source, as_flag(progress, "progress"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = check_replay(set_dir, str(replay), folder, source)
    for line in _table(found):
        print(line)
    print(_summary(set_dir, found, replay))
    sys.exit(1 if found else 0)


def _table(found: Sequence[Finding]) -> list[str]:
    """A line for each finding, under each other."""
    width = max((len(finding.file) for finding in found), default=0)
    return [f"{finding.file:{width}}  {finding.sentence}" for finding in found]


def _summary(set_dir: str, found: Sequence[Finding], replay: str | None) -> str:
    """How many findings there are in what was checked."""
    if replay is not None:
        checked = f"case {replay}, made again"
    else:
        records = read_manifest(Path(str(set_dir)))
        lesions = sum(len({lesion["lesion"] for lesion in record.get("lesions", [])}) for record in records)
        checked = f"{_count(len(records), 'case')}, {_count(lesions, 'lesion')}"
        generated = sum(record.get("background") == "generated" for record in records)
        if generated:
            checked += f" (a set to compare methods with: the background of {_count(generated, 'case')} is generated)"
    return f"{checked}: {_count(len(found), 'finding') if found else 'all as recorded'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s'[: number != 1]}"
