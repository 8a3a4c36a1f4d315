"""What the commands that prepare a data set share: the folder they claim, reruns that complete it, and failed cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .errors import InputError
from .files import check_writable, write_atomically

__all__ = ["EXIT_FAILED_CASES", "Failures", "claim_folder", "write_json", "write_lines"]

EXIT_FAILED_CASES = 3
CLAIM = "prepare.json"


def claim_folder(output: Path, settings: Mapping[str, Any], overwrite: bool, parts: Sequence[str]) -> None:
    """Makes a folder ready for a command: a new one, or one that the same command left unfinished or wants to extend.

    ``prepare.json`` in it holds the settings. Temporary files of a run that was killed are removed.

    Args:
        output: the folder.
        settings: whatever decides what the files become; a rerun must have the same.
        overwrite: start anew where an earlier run of any settings has claimed the folder.
        parts: folders within it that the command writes, and that ``overwrite`` removes.

    Raises:
        InputError: where it cannot be written, holds other files, or was made with other settings.
    """
    check_writable(output)
    claim = output / CLAIM
    if claim.is_file():
        if overwrite:
            for part in parts:
                shutil.rmtree(output / part, ignore_errors=True)
        else:
            _check_same(json.loads(claim.read_text()), settings, output)
    elif output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output} is not empty and holds no prepared data set: choose another folder.")
    for partial in output.rglob(".partial-*"):
        partial.unlink()
    write_json(claim, dict(settings))


def _check_same(earlier: Mapping[str, Any], settings: Mapping[str, Any], output: Path) -> None:
    for key in (*settings, *earlier):
        if earlier.get(key) != settings.get(key):
            raise InputError(
                f"{output} was prepared with {key} {earlier.get(key)!r}, now it is {settings.get(key)!r}: "
                "pass --overwrite true or another folder."
            )


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, which appears whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + "\n"))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text))


class Failures:
    """Cases that could not be used: told when they fail, listed at the end and in ``failed.jsonl``."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, case: str, error: Exception) -> None:
        """Tells of a case and goes on."""
        self.rows.append({"case": case, "error": str(error)})
        tqdm.write(f"skipped {case}: {error}")

    def finish(self, output: Path) -> None:
        """Lists the failed cases; the file of an earlier run goes where there are none.

        Raises:
            SystemExit: with code 3, where any case failed.
        """
        path = output / "failed.jsonl"
        if not self.rows:
            path.unlink(missing_ok=True)
            return
        write_lines(path, self.rows)
        print(f"{len(self.rows)} failed, listed in {path}:")
        for row in self.rows:
            print(f"  {row['case']}: {row['error']}")
        raise SystemExit(EXIT_FAILED_CASES)
