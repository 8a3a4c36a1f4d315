"""Finding label files to learn masks from: no image belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .datasets import SCAN_SUFFIXES, case_name, read_entries
from .errors import InputError

__all__ = ["find_masks"]


def find_masks(dataset_dir: str | Path, whole: bool = True) -> list[dict[str, Any]]:
    """The label files of a data set: dictionaries with ``label``, ``case``, ``patient`` and what a manifest adds.

    Args:
        dataset_dir: a folder with a ``datalist.json`` (a list of objects with ``label``, relative to the file,
            or a dictionary whose ``training`` is that list), or else
            with ``labels/`` (NIfTI; each file a patient). A folder that does not exist gives no cases, so that a bundle
            can be inspected without data.
        whole: leave out entries whose ``whole`` is false, because the lesion reaches out of its file.

    Raises:
        InputError: where the folder holds neither, an entry has no ``label``, or a label is missing.
    """
    root = Path(str(dataset_dir))
    if not root.exists():
        return []
    if (root / "datalist.json").is_file():
        cases = read_entries(root / "datalist.json", ("label",))
    elif (root / "labels").is_dir():
        files = sorted(path for path in (root / "labels").iterdir() if path.name.endswith(SCAN_SUFFIXES))
        cases = [{"label": str(path)} for path in files if not path.name.startswith(".")]
    else:
        raise InputError(f"dataset_dir {root} holds neither a datalist.json nor a labels/ folder.")
    cases = [case for case in cases if not whole or case.get("whole", True)]
    if not cases:
        raise InputError(f"dataset_dir {root} holds no labels.")
    for case in cases:
        case.setdefault("case", case_name(case["label"]))
        case.setdefault("patient", case["case"])
        if not Path(case["label"]).is_file():
            raise InputError(f"label {case['label']} of case {case['case']} does not exist.")
    return cases
