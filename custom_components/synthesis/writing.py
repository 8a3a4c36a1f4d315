"""The files of a finished case, in the set's layout; the sidecar comes last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import file_hash, write_atomically
from ..handlers import LesionSaver
from ..provenance import DESCRIPTION, build_sidecar
from ..specs import lesions_of
from ..volumes import write_scan
from .cases import SyntheticCase
from .layouts import Layout

__all__ = ["CaseWriter", "SyntheticCaseSaver"]


class CaseWriter:
    """Writes the files of one case after the other.

    Args:
        layout: where they go.
        facts: of the sidecar's ``synthesis``, the same for all cases: ``mask_source``, ``set``, ``mask_weights``.
        wanted: the cases to write; others were made only because they share batches with these.
    """

    def __init__(self, layout: Layout, facts: Mapping[str, Any], wanted: set[str]) -> None:
        self.layout, self.facts, self.wanted = layout, dict(facts), wanted
        self.written: list[str] = []

    def __call__(
        self,
        case: SyntheticCase,
        stored: np.ndarray,
        entries: Sequence[Mapping[str, Any]],
        saver: LesionSaver,
        numbers: Sequence[int],
    ) -> None:
        """Writes a case.

        Args:
            case: its scan and lesions in memory.
            stored: (X, Y, Z), the scan with its lesions, as stored.
            entries: one for each lesion and class, for the sidecar.
            saver: whose weights, settings and picture go into the files.
            numbers: the saver's items that belong to the case.
        """
        paths, lesions = self.layout.paths(case.name), case.lesions
        paths["sidecar"].unlink(missing_ok=True)
        write_scan(case.image, stored, paths["image"], DESCRIPTION)
        label = np.where(lesions.instances > 0, lesions.label, 0).astype(np.uint8)
        write_scan(case.image, self.layout.stored_label(label), paths["label"], DESCRIPTION, scaled=False)
        write_scan(case.image, lesions.instances, paths["instances"], DESCRIPTION, scaled=False)
        if saver.panel:
            saver.draw_panel(numbers, lesions, stored, paths["panel"])
        else:
            paths["panel"].unlink(missing_ok=True)
        sidecar = build_sidecar(
            case.scan.image,
            paths["label"],
            saver.weights,
            saver.settings,
            entries,
            case.image.affine,
            saver.difference_outside(lesions, stored),
            saver.bundle_root,
            saver.background,
        )
        del sidecar["created"]  # synthesis.json tells it; the same command gives the same bytes at any time
        sidecar["synthesis"] = {
            "case": case.name,
            "scan": case.scan.name,
            "source": case.scan.relative,
            **self.facts,
            "organ": case.organ.record,
            "sites": case.sites,
        }
        sidecar["files"] = {
            role: {"path": _below(path, self.layout.root), "sha256": file_hash(path)}
            for role, path in paths.items()
            if role != "sidecar" and path.exists()
        }
        text = json.dumps(sidecar, indent=2) + "\n"
        write_atomically(paths["sidecar"], lambda path: path.write_text(text))
        self.written.append(case.name)


class SyntheticCaseSaver(LesionSaver):
    """Collects the evaluator's painted crops; hands each complete case to a :class:`CaseWriter`.

    Args:
        cases: the cases by name.
        writer: writes them.
        on_finish: called as ``on_finish(case, error)`` after each case, the error being None or why it failed.
        others: see :class:`~custom_components.handlers.LesionSaver`.
    """

    def __init__(
        self,
        lesions: Sequence[Mapping[str, Any]],
        cases: Mapping[str, SyntheticCase],
        writer: CaseWriter,
        on_finish: Any,
        **others: Any,
    ) -> None:
        super().__init__(lesions, **others)
        self.by_name, self.writer, self.on_finish = cases, writer, on_finish

    def paths(self, case: str) -> dict[str, Path]:
        return self.writer.layout.paths(case)

    def finish(self, numbers: Sequence[int]) -> None:
        case = self.by_name[self.case_names[numbers[0]]]
        try:
            stored, entries = self.paste(numbers, lesions_of(self.items[numbers[0]], self.labels))
            if case.name in self.writer.wanted:
                self.writer(case, stored, entries, self, numbers)
        except (OSError, InputError) as error:
            self.on_finish(case, error)
        else:
            self.on_finish(case, None)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
