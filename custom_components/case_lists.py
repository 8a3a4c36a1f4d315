"""Mixtures of data sets: lists of cases given by folder or datalist, put together and parted by patient."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .datasets import list_cases, split_by_patient
from .errors import InputError
from .synthesis.records import MANIFEST, read_manifest, read_run

__all__ = ["CaseList", "mix_cases", "parse_lists", "read_lists", "require_cases", "split_lists", "warn_of_shared"]


@dataclass(frozen=True)
class CaseList:
    """One list of a mixture, written ``PATH``, ``PATH#SECTION`` or either with ``*REPEATS``.

    Attributes:
        path: a data set's folder, or a datalist JSON.
        section: which list of a datalist that holds several; None: not told.
        repeats: how often each case counts.
    """

    path: Path
    section: str | None = None
    repeats: int = 1


def parse_lists(lists: str | Sequence[str], key: str) -> list[CaseList]:
    """Reads the lists of a mixture as a config or a command line writes them.

    Args:
        lists: one list or several; also as text in brackets with commas, as fire passes on what is not quoted.
        key: the name of the setting, for messages.

    Raises:
        InputError: for no list, or one that is no text or repeats something other than a whole number of times.
    """
    if isinstance(lists, str):
        lists = [part.strip(" '\"") for part in lists.strip("[] ").split(",") if part.strip(" '\"")]
    if not isinstance(lists, Sequence) or not lists or not all(isinstance(entry, str | Path) for entry in lists):
        raise InputError(f"{key} must be a list of data sets' folders or datalists, got {lists!r}.")
    parsed = []
    for entry in map(str, lists):
        rest, star, count = entry.rpartition("*")
        if star and not (count.strip().isdigit() and int(count) > 0):
            raise InputError(f"{key}: {entry} must end in a whole number of repeats after '*'.")
        # MONAI's config parser writes every '#' of a config as '::'.
        place, _, section = (rest if star else entry).strip().replace("::", "#").partition("#")
        parsed.append(CaseList(Path(place), section or None, int(count) if star else 1))
    return parsed


def read_lists(lists: str | Sequence[str], key: str) -> list[list[dict[str, Any]]]:
    """The cases of each list of a mixture, once each, as :func:`~custom_components.datasets.list_cases` gives them.

    Each case tells its ``list`` (number from 0) and how often it counts (``repeats``), and a synthetic one (of a folder
    with a manifest) ``synthetic``. A synthetic case belongs to the patient of the scan that it was made from: that
    of the case of this name in any of the lists, or in the data set it was painted into, where that is still there;
    or else the scan itself.

    Raises:
        InputError: as :func:`parse_lists` and :func:`~custom_components.datasets.list_cases`.
    """
    found: list[list[dict[str, Any]]] = []
    painted_into: dict[str, str] = {}
    for number, entry in enumerate(parse_lists(lists, key)):
        if not entry.path.exists():
            raise InputError(f"{key}: {entry.path} does not exist.")
        extra = {"list": number, "repeats": entry.repeats}
        scans = _scans_of(entry.path)
        cases = []
        for case in list_cases(entry.path, section=entry.section):
            scan = scans.get(Path(case["image"]).name)
            origin = {} if scan is None else {"patient": scan, "synthetic": True}
            cases.append({**case, **extra, **origin})
        painted_into |= _patients_painted_into(entry.path) if scans else {}
        found.append(cases)
    named = {case["case"]: str(case["patient"]) for cases in found for case in cases if not case.get("synthetic")}
    patients = {**painted_into, **named}
    for case in (case for cases in found for case in cases if case.get("synthetic")):
        case["patient"] = patients.get(case["patient"], case["patient"])
    return found


def _scans_of(path: Path) -> dict[str, str]:
    """File name of each synthetic image of a set -> the scan that it was made from; empty for real sets."""
    root = _root(path)
    if not (root / MANIFEST).is_file():
        return {}
    records = (record for record in read_manifest(root) if "image" in record.get("files", {}) and "scan" in record)
    return {Path(record["files"]["image"]).name: str(record["scan"]) for record in records}


def _patients_painted_into(path: Path) -> dict[str, str]:
    """Name of each scan that a set was painted into -> its patient; empty where the data set is not there any more."""
    try:
        cases = list_cases(str(read_run(_root(path))["input"]), labelled=False)
    except (InputError, KeyError):
        return {}
    return {case["case"]: str(case["patient"]) for case in cases}


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def split_lists(
    section: str,
    train_lists: str | Sequence[str],
    held_out_lists: str | Sequence[str] | None = None,
    val_fraction: float = 0.2,
    val_patients: Sequence[str] | None = None,
    held_out_key: str = "val_lists",
) -> list[dict[str, Any]]:
    """The cases of one side of a training, each once.

    Without lists of its own, the ``validation`` side is the held-out patients of the first training list (see
    :func:`~custom_components.datasets.split_by_patient`); training then leaves out every case of these patients, those
    painted into their scans as well. With lists of its own, both sides are taken as they are given; patients on
    both are told on stderr.

    Args:
        section: ``training`` or ``validation``.
        train_lists: see :func:`parse_lists`. A first list that does not exist gives no cases, so that a bundle can be
            inspected without data.
        held_out_lists: of the validation or the test.
        val_fraction, val_patients: of the first training list, where nothing else is given.
        held_out_key: the name of the setting, for messages.

    Raises:
        InputError: for lists that cannot be read, or where a side is empty.
    """
    if section not in ("training", "validation"):
        raise InputError(f"section must be training or validation, got {section!r}.")
    if held_out_lists is not None and section == "validation":
        return _flat(read_lists(held_out_lists, held_out_key))
    if not parse_lists(train_lists, "train_lists")[0].path.exists():
        return []
    lists = read_lists(train_lists, "train_lists")
    if held_out_lists is not None:
        cases = _flat(lists)
        warn_of_shared(cases, _flat(read_lists(held_out_lists, held_out_key)), "train_lists", held_out_key)
        return cases
    held_out = split_by_patient(lists[0], val_fraction, "validation", val_patients)
    if section == "validation":
        return held_out
    names = {str(case["patient"]) for case in held_out}
    split_by_patient(lists[0], val_fraction, "training", val_patients)
    return [case for case in _flat(lists) if str(case["patient"]) not in names]


def warn_of_shared(
    cases: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]], key: str, held_out_key: str
) -> None:
    """Tells on stderr of patients that are on both sides; the keys are the names of the settings."""
    shared = sorted({str(case["patient"]) for case in cases} & {str(case["patient"]) for case in held_out})
    if shared:
        print(
            f"warning: {len(shared)} patients are in {key} and in {held_out_key}, {shared[0]} for one.", file=sys.stderr
        )


def require_cases(cases: Sequence[dict[str, Any]], train_lists: str | Sequence[str]) -> None:
    """Raises InputError where :func:`split_lists` found nothing to train on or to measure."""
    if not cases:
        raise InputError(f"train_lists: {parse_lists(train_lists, 'train_lists')[0].path} does not exist.")


def _flat(lists: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [case for cases in lists for case in cases]


def mix_cases(cases: Sequence[dict[str, Any]]) -> list[int]:
    """The places of the cases in a mixture, each as often as its list repeats it (the proportional mix)."""
    return [number for number, case in enumerate(cases) for _ in range(int(case.get("repeats", 1)))]
