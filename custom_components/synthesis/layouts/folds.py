"""Folds for a cross-validation that never has cases of one scan on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FOLDS", "folds_of"]

FOLDS = 5


def folds_of(records: Sequence[Mapping[str, Any]], count: int = FOLDS) -> list[int]:
    """The fold, 0 to ``count`` - 1, of each record; all cases of a scan are in the same one.

    Scans are dealt in the order of their names' SHA-256, so that folds are equally large up to one scan and the same
    everywhere.
    """
    scans = sorted({record["scan"] for record in records}, key=lambda scan: hashlib.sha256(scan.encode()).hexdigest())
    fold = {scan: number % count for number, scan in enumerate(scans)}
    return [fold[record["scan"]] for record in records]
