"""Finding cases on disk, splitting them by patient, and drawing their augmentations reproducibly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import CacheDataset
from monai.transforms import Compose
from tqdm import tqdm

from .errors import InputError, first_line
from .labels import LesionLabels
from .seeds import derive_seed

__all__ = [
    "ReproducibleDataset",
    "find_cases",
    "list_cases",
    "list_lesions",
    "read_entries",
    "require_cases",
    "require_lesion",
    "split_by_patient",
    "with_lesions",
]

SCAN_SUFFIXES = (".nii.gz", ".nii")


def case_name(path: str | Path) -> str:
    """A file's or folder's name without its scan suffix."""
    name = Path(str(path)).name
    for suffix in SCAN_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def list_cases(dataset_dir: str | Path, labelled: bool = True, section: str | None = None) -> list[dict[str, Any]]:
    """The cases of a data set: dictionaries with ``image``, ``label``, ``case``, ``patient`` and what a datalist adds.

    Args:
        dataset_dir: a folder with ``images/`` and ``labels/`` (equal file names; NIfTI, or DICOM series folders as
            images), a folder with a ``datalist.json``, or the path of such a JSON: a list of objects with ``image``
            and ``label`` (relative to the file, or absolute), or a dictionary whose ``training`` is that list; or a
            folder whose subfolders hold ``images/`` and ``labels/``: their cases together, each with its ``group``.
        labelled: whether every image needs a label; otherwise a case without one has no ``label``.
        section: which list of a dictionary is read; None: ``training``, where there is a dictionary.

    Raises:
        InputError: where nothing is there, an image lacks its label, an entry lacks a key, or a section is asked for
            and there are none.
    """
    root = Path(str(dataset_dir))
    if not root.exists():
        raise InputError(f"dataset_dir {root} does not exist.")
    datalist = root / "datalist.json" if root.is_dir() else root
    if datalist.is_file():
        cases = read_entries(datalist, ("image", "label") if labelled else ("image",), ("label",), section)
    elif section is not None and root.is_dir():
        raise InputError(f"dataset_dir {root} holds no datalist.json: there is no list {section!r} in it.")
    elif (root / "images").is_dir():
        cases = _pair_folders(root, labelled)
    elif groups := sorted(path.parent for path in root.glob("*/images") if path.is_dir()):
        cases = [{**case, "group": group.name} for group in groups for case in _pair_folders(group, labelled)]
    else:
        raise InputError(f"dataset_dir {root} holds neither a datalist.json nor an images/ folder.")
    if not cases:
        raise InputError(f"dataset_dir {root} holds no cases.")
    for case in cases:
        case.setdefault("case", case_name(case["image"]))
        case.setdefault("patient", case["case"])
        for key in ("image", "label"):
            if key in case and not Path(case[key]).exists():
                raise InputError(f"{key} {case[key]} of case {case['case']} does not exist.")
    return cases


def find_cases(
    dataset_dir: str | Path, image: str | Path | None = None, mask: str | Path | None = None
) -> list[dict[str, Any]]:
    """The one case given by ``image`` and ``mask``, or else the data set's cases (see :func:`list_cases`).

    A ``dataset_dir`` that does not exist gives no cases, so that a bundle can be inspected without data;
    :func:`require_cases` then stops a run.

    Raises:
        InputError: where only one of the two is given, and as :func:`list_cases`.
    """
    if image is None and mask is None:
        return list_cases(dataset_dir) if Path(str(dataset_dir)).exists() else []
    if image is None or mask is None:
        raise InputError(f"image and mask go together, but {'image' if image is None else 'mask'} is missing.")
    return [{"image": str(image), "label": str(mask), "case": case_name(image), "patient": case_name(image)}]


def with_lesions(cases: Sequence[dict[str, Any]], labels: LesionLabels) -> list[dict[str, Any]]:
    """The cases whose label map holds a lesion of any class: normal cases are nothing to learn lesions from.

    Raises:
        InputError: where a label map cannot be read, or cases are given and none has a lesion.
    """
    bar = tqdm(cases, desc="looking for lesions", delay=2, leave=False)
    found = [case for case in bar if _has_lesion(case, labels)]
    if cases and not found:
        raise _no_lesion(cases, labels)
    return found


def require_lesion(cases: Sequence[dict[str, Any]], labels: LesionLabels) -> None:
    """Raises InputError where no label map holds a lesion of any class; looks no further than the first that does."""
    if cases and not any(_has_lesion(case, labels) for case in cases):
        raise _no_lesion(cases, labels)


def _has_lesion(case: dict[str, Any], labels: LesionLabels) -> bool:
    try:
        values = np.asarray(nib.load(case["label"]).dataobj)
    except Exception as error:
        raise InputError(f"cannot read label {case['label']}: {first_line(error)}") from error
    return bool(labels.lesion(values).any())


def _no_lesion(cases: Sequence[dict[str, Any]], labels: LesionLabels) -> InputError:
    wanted = ", ".join(f"{name} = {value}" for name, value in labels.classes.items())
    return InputError(f"none of the {len(cases)} label maps holds a lesion ({wanted}).")


def list_lesions(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One item for each lesion to learn from: its case's dictionary with ``lesion``, the lesion's number in it.

    Args:
        cases: dictionaries with ``lesions``, the numbers (see :func:`~custom_components.specs.find_lesions`) of the
            lesions that fit the crop, as the preparation of a data set writes them to its datalist.

    Raises:
        InputError: where a case does not tell its lesions, or cases are given and none has a lesion.
    """
    items = []
    for case in cases:
        numbers = case.get("lesions")
        if not isinstance(numbers, list) or not all(isinstance(number, int) and number > 0 for number in numbers):
            raise InputError(f"case {case['case']} of the datalist lacks 'lesions', the numbers of its lesions.")
        items += [{**case, "lesion": number} for number in numbers]
    if cases and not items:
        raise InputError(f"none of the {len(cases)} cases of the datalist has a lesion.")
    return items


def require_cases(cases: Sequence[dict[str, Any]], dataset_dir: str | Path) -> None:
    """Raises InputError where :func:`find_cases` found nothing."""
    if not cases:
        raise InputError(f"dataset_dir {dataset_dir} does not exist.")


def read_entries(
    path: Path, keys: Sequence[str], optional: Sequence[str] = (), section: str | None = None
) -> list[dict[str, Any]]:
    """The entries of a datalist: a list of objects, or the one under ``section`` of a dictionary.

    Args:
        path: the JSON.
        keys: paths that every entry has, relative to the JSON; they are joined to its folder.
        optional: further such paths, which an entry may have.
        section: which list of a dictionary is meant; None: ``training``, where it is a dictionary.

    Raises:
        InputError: where it cannot be read, is neither, has no such list, or an entry lacks a path.
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the datalist {path}: {error}.") from error
    if isinstance(entries, list) and section is not None:
        raise InputError(f"datalist {path} is a single list: there is no list {section!r} in it.")
    entries = entries.get(section or "training") if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        wanted = section or "training"
        raise InputError(f"datalist {path} must hold a list of cases, or a dictionary with one under {wanted!r}.")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in keys):
            named = " and ".join(repr(key) for key in keys)
            raise InputError(f"entry {number} of datalist {path} must have the path{'s' * (len(keys) > 1)} {named}.")
    paths = {*keys, *optional}
    return [
        {**entry, **{key: str(path.parent / entry[key]) for key in paths if isinstance(entry.get(key), str)}}
        for entry in entries
    ]


def _pair_folders(root: Path, labelled: bool) -> list[dict[str, Any]]:
    labels = {case_name(p): p for p in sorted((root / "labels").glob("*")) if p.name.endswith(SCAN_SUFFIXES)}
    cases = []
    for image in sorted((root / "images").iterdir()):
        if image.name.endswith(SCAN_SUFFIXES) or (image.is_dir() and not image.name.startswith(".")):
            name = case_name(image)
            if labelled and name not in labels:
                raise InputError(f"image {image} has no label of the same name in {root / 'labels'}.")
            label = {"label": str(labels[name])} if name in labels else {}
            cases.append({"image": str(image), **label, "case": name})
    return cases


def split_by_patient(
    cases: Sequence[dict[str, Any]],
    val_fraction: float = 0.2,
    section: str = "training",
    val_patients: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The ``training`` or ``validation`` part of the cases; a patient is wholly in one of them.

    Args:
        cases: dictionaries with ``patient``.
        val_fraction: share of the patients held out. The order of the patients' SHA-256 decides which, so the split
            is the same everywhere.
        section: ``training`` or ``validation``.
        val_patients: patients held out in place of the fraction, where the cases have any of them.

    Raises:
        InputError: for an unknown section or a fraction outside [0, 1), or where patients leave a section empty.
    """
    if section not in ("training", "validation"):
        raise InputError(f"section must be training or validation, got {section!r}.")
    if not 0 <= val_fraction < 1:
        raise InputError(f"val_fraction must lie within 0 and 1, got {val_fraction}.")
    patients = sorted({str(case["patient"]) for case in cases}, key=lambda p: hashlib.sha256(p.encode()).hexdigest())
    named = set(patients).intersection(str(patient) for patient in val_patients or ())
    held_out = named or set(patients[: round(val_fraction * len(patients))])
    part = [case for case in cases if (str(case["patient"]) in held_out) == (section == "validation")]
    if cases and not part and (section == "training" or val_fraction > 0):
        raise InputError(f"no patient is left for {section}: {len(patients)} patients, val_fraction {val_fraction}.")
    return part


class ReproducibleDataset(CacheDataset):
    """CacheDataset whose random transforms depend on (seed, epoch, index) only.

    What an item becomes does not depend on workers, on processes or on where a run was resumed. Each item gets a
    ``seed`` for the draws made later (noise and timestep).

    Args:
        data: dictionaries.
        transform: dictionary transforms; the deterministic ones at the front are cached.
        seed: run seed.
        repeats: an epoch passes over the data this many times, each time with other draws.
        cache_rate, num_workers, progress: as CacheDataset.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        seed: int = 0,
        repeats: int = 1,
        cache_rate: float = 1.0,
        num_workers: int | None = None,
        progress: bool = True,
    ) -> None:
        if repeats < 1:
            raise InputError(f"repeats must be at least 1, got {repeats}.")
        transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.seed, self.repeats, self.epoch = seed, repeats, 0
        super().__init__(
            data=data,
            transform=transform,
            cache_rate=cache_rate,
            num_workers=num_workers,
            progress=progress,
            copy_cache=True,
        )

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch; :class:`~custom_components.handlers.DatasetEpoch` calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return super().__len__() * self.repeats

    def _transform(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a data set of {len(self)} items.")
        index %= len(self)
        seed = derive_seed(self.seed, self.epoch, index)
        self.transform.set_random_state(seed=seed % 2**32)
        item = super()._transform(index % super().__len__())
        return {**item, "seed": seed}
