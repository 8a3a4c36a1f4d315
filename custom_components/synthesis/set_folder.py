"""The folder of a set: what it was made by, which cases are complete, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..files import check_writable, write_atomically
from .layouts import Layout
from .records import RUN_FILE, read_run, read_sidecar, record_of, write_manifest

__all__ = ["FAILURES", "SetFolder"]

FAILURES = "failed.jsonl"


class SetFolder:
    """Reads and writes what belongs to the set as a whole.

    Args:
        root: folder of the set.
        layout: names the files of each case.
    """

    def __init__(self, root: str | Path, layout: Layout) -> None:
        self.root, self.layout = Path(root), layout

    def begin(self, run: Mapping[str, Any], overwrite: bool = False) -> None:
        """Starts a set, or goes on with one that the same command began; half files of a killed run go.

        Args:
            run: ``command``, ``input``, ``organ_mask``, ``layout``, ``weights``, ...
            overwrite: begin anew, without the cases of an earlier command.

        Raises:
            InputError: where the folder cannot be written to, holds something else, or was made by another command.
        """
        check_writable(self.root)
        for path in self.root.rglob(".partial-*"):
            path.unlink(missing_ok=True)
        if overwrite:
            self.clear()
        elif (self.root / RUN_FILE).is_file():
            self._check_same(read_run(self.root), run)
            return
        elif self.root.is_dir() and any(self.root.iterdir()):
            raise InputError(f"output {self.root} holds files, but no set of synthesize: give an empty folder.")
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = {**run, "version": __version__, "created": created}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(self.root / RUN_FILE, lambda path: path.write_text(text))

    def clear(self) -> None:
        """Removes the files that sidecars tell of, the sidecars first, and the record of the run last."""
        for path in sorted(self.root.rglob("*.json")):
            try:
                sidecar = json.loads(path.read_text())
                files = (
                    [self.root / file["path"] for file in sidecar["files"].values()] if "synthesis" in sidecar else []
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if files:
                path.unlink()
                for file in files:
                    file.unlink(missing_ok=True)
        (self.root / RUN_FILE).unlink(missing_ok=True)

    def is_complete(self, case: str) -> bool:
        """Whether a case has its sidecar and every file that the sidecar tells of."""
        path = self.layout.paths(case)["sidecar"]
        if not path.is_file():
            return False
        try:
            return all((self.root / file["path"]).is_file() for file in read_sidecar(path)["files"].values())
        except (InputError, KeyError, TypeError, AttributeError):
            return False

    def remove(self, case: str) -> None:
        """Removes what there is of a case, the sidecar first."""
        for path in reversed(self.layout.paths(case).values()):
            path.unlink(missing_ok=True)

    def finish(self, cases: Iterable[str], failures: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Writes the manifest of all complete cases, the layout's own files, and the failures; returns the records."""
        records = []
        for case in cases:
            if self.is_complete(case):
                path = self.layout.paths(case)["sidecar"]
                records.append(record_of(read_sidecar(path), path, self.root))
        write_manifest(self.root, records)
        self.layout.finish(sorted(records, key=lambda record: record["case"]))
        path = self.root / FAILURES
        if failures:
            text = "".join(json.dumps(failure) + "\n" for failure in failures)
            write_atomically(path, lambda temporary: temporary.write_text(text))
        else:
            path.unlink(missing_ok=True)
        return records

    def _check_same(self, earlier: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        same = json.loads(json.dumps(run))
        for key in ("command", "weights"):
            old, new = earlier.get(key) or {}, same.get(key) or {}
            for name in sorted({*old, *new}):
                if name != "output" and old.get(name) != new.get(name):
                    raise InputError(
                        f"output {self.root} was made with {key} {name} {json.dumps(old.get(name))}, now it is "
                        f"{json.dumps(new.get(name))}: give another --output, or --overwrite true to begin anew."
                    )
        if earlier.get("version") != __version__:
            raise InputError(
                f"output {self.root} was made by version {earlier.get('version')}, this is {__version__}: give another "
                "--output, or --overwrite true to begin anew."
            )
