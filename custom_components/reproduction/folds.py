"""The cases of each fold: what generators and segmenters learn from, what weights are chosen by, what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import list_cases, with_lesions
from ..errors import InputError
from ..labels import LesionLabels
from ..preparation import write_json

__all__ = ["Fold", "deal_folds", "write_folds"]

Cases = list[dict[str, Any]]

TEST_FRACTION = 0.2  # as the paper's 202 of 1010 patients, where the data set does not tell its test cases


@dataclass(frozen=True)
class Fold:
    """The cases of a fold; a patient is in one of ``train``, ``val`` and ``test``, and no patient of ``val`` or
    ``test`` is in ``normal``.

    Attributes:
        number: from 0.
        folder: where its datalists lie.
        counts: datalist -> number of cases.
        organs: folder with the organ masks of the normal cases, or None.
    """

    number: int
    folder: Path
    counts: dict[str, int]
    organs: Path | None = None

    def path(self, part: str) -> Path:
        """The data set of ``train``, ``val``, ``test`` or ``normal``: a folder with a datalist."""
        return self.folder / part


def deal_folds(
    pathological: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]],
    normal: Sequence[dict[str, Any]],
    folds: int,
    val_fraction: float,
    learnt: Collection[str] = (),
) -> list[dict[str, Cases]]:
    """The parts of each fold.

    Patients are dealt in the order of their SHA-256, so that the folds are the same everywhere.

    Args:
        pathological: cases with lesions.
        test: those that the data set keeps for the test; with a single fold they are what is held out.
        normal: cases without lesions.
        folds: 1, or how many parts the patients are dealt into, each of which is held out once.
        val_fraction: share of a fold's other patients by which a segmenter's weights are chosen, at least one.
        learnt: patients that weights which were not trained here have learnt from: they are in no other part than
            ``train``.

    Raises:
        InputError: where a part would be empty, or someone of ``learnt`` is among ``test`` or dealt into several
            folds.
    """
    everyone = [*pathological, *test]
    patients = sorted({case["patient"] for case in everyone}, key=lambda p: hashlib.sha256(p.encode()).hexdigest())
    unseen = [patient for patient in patients if patient not in learnt]
    if folds == 1:
        count = min(round(TEST_FRACTION * len(patients)), max(0, len(unseen) - 1))
        blocks = [{case["patient"] for case in test} or set(unseen[:count])]
        if not blocks[0]:
            raise InputError(f"of {len(patients)} patients nobody can be held out: the given weights know the others.")
        known = sorted(blocks[0].intersection(learnt))
        if known:
            raise InputError(f"the given weights have learnt from {known[0]}, who is to be held out for the test.")
    elif learnt:
        raise InputError(f"with weights that were trained elsewhere there can only be 1 fold, not {folds}.")
    else:
        if len(patients) < folds:
            raise InputError(f"{len(patients)} patients cannot be dealt into {folds} folds.")
        blocks = [set(map(str, block)) for block in np.array_split(np.array(patients), folds)]
    parts = []
    for number, held_out in enumerate(blocks):
        rest = [case for case in everyone if case["patient"] not in held_out]
        others = {case["patient"] for case in rest}
        if len(others) < 3:
            raise InputError(
                f"fold {number} leaves {len(others)} patients to train on: at least 3 are needed, so that a "
                "generator and a segmenter can each be chosen by patients they have not learnt from."
            )
        chooses = [patient for patient in unseen if patient in others][: max(1, round(val_fraction * len(others)))]
        if not chooses:
            raise InputError(
                f"the given weights know all {len(others)} patients to train on: none is left to choose by."
            )
        fold = {
            "train": [case for case in rest if case["patient"] not in chooses],
            "val": [case for case in rest if case["patient"] in chooses],
            "test": [case for case in everyone if case["patient"] in held_out],
        }
        kept = {case["patient"] for part in ("val", "test") for case in fold[part]}
        fold["normal"] = [case for case in normal if case["patient"] not in kept]
        if normal and not fold["normal"]:
            raise InputError(f"all normal cases are of patients that fold {number} holds out.")
        parts.append(fold)
    return parts


def write_folds(
    data: Path,
    folder: Path,
    labels: LesionLabels,
    folds: int,
    val_fraction: float,
    organ: str | None,
    normals: bool,
    learnt: Collection[str] = (),
) -> list[Fold]:
    """Deals a data set into folds and writes their datalists, or checks that they are as they were.

    Args:
        data: folder with ``Pathological`` and ``Normal``, as ``lefusion prepare lidc`` and ``emidec`` write them.
        folder: gets ``<fold>/<part>/datalist.json``.
        labels: lesions of the label maps.
        organ: folder of organ masks beside the normal images, where there is one.
        normals: whether normal cases are needed.
        learnt: patients that given weights have learnt from.

    Raises:
        InputError: where cases are missing, too few, or not those that the folder was begun with.
    """
    training, test = _pathological(data / "Pathological", labels)
    normal: Cases = []
    if (data / "Normal").is_dir():
        normal = list_cases(data / "Normal", labelled=organ is None)
    elif normals:
        raise InputError(f"{data} has no folder Normal: scans without lesions are what N' and N'' are painted into.")
    for case in normal:
        case["patient"] = str(case["patient"])
    masks = None if organ is None or not (data / "Normal" / organ).is_dir() else data / "Normal" / organ
    found = []
    for number, parts in enumerate(deal_folds(training, test, normal, folds, val_fraction, learnt)):
        fold = Fold(number, folder / str(number), {part: len(cases) for part, cases in parts.items()}, masks)
        for part, cases in parts.items():
            if part == "normal" and not normal:
                continue
            _write_or_check(fold.path(part) / "datalist.json", [_absolute(case) for case in cases], data)
        found.append(fold)
    return found


def _pathological(root: Path, labels: LesionLabels) -> tuple[Cases, Cases]:
    """Cases with lesions, and those of them that the datalist keeps under ``test``."""
    cases, test = list_cases(root), _test_cases(root / "datalist.json")
    for case in (*cases, *test):
        case["patient"] = str(case["patient"])
    return with_lesions(cases, labels), with_lesions(test, labels) if test else []


def _test_cases(datalist: Path) -> Cases:
    """The cases under ``test`` of a datalist, where there is one that has them."""
    content = json.loads(datalist.read_text()) if datalist.is_file() else []
    told = isinstance(content, dict) and content.get("test")
    return list_cases(datalist, section="test") if told else []


def _absolute(case: dict[str, Any]) -> dict[str, Any]:
    return {**case, **{key: str(Path(case[key]).resolve()) for key in ("image", "label") if key in case}}


def _write_or_check(path: Path, cases: Cases, data: Path) -> None:
    if not path.is_file():
        write_json(path, cases)
    elif json.loads(path.read_text()) != json.loads(json.dumps(cases)):
        raise InputError(
            f"the cases of {data} are not those that {path} was written for: put the data back as it was, or choose "
            "another --work."
        )
