"""The scans to segment: no label maps are needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from .datasets import case_name, list_cases
from .errors import InputError

__all__ = ["list_scans"]


def list_scans(dataset_dir: str | Path, image: str | Path | None = None) -> list[dict[str, Any]]:
    """The one scan given by ``image``, or else those of a data set: dictionaries with ``image``, ``case``, ``index``.

    A ``dataset_dir`` that does not exist gives none, so that a bundle can be inspected without data.

    Args:
        dataset_dir: see :func:`~custom_components.datasets.list_cases`.
        image: a NIfTI file or a folder with one DICOM series.

    Raises:
        InputError: where the image does not exist, or two scans share a name, and so would their outputs.
    """
    if image is not None:
        if not Path(str(image)).exists():
            raise InputError(f"image {image} does not exist.")
        return [{"image": str(image), "case": case_name(image), "index": 0}]
    if not Path(str(dataset_dir)).exists():
        return []
    cases = list_cases(dataset_dir, labelled=False)
    name, count = Counter(case["case"] for case in cases).most_common(1)[0]
    if count > 1:
        raise InputError(f"two cases of {dataset_dir} are named {name!r}; their outputs would share a name.")
    return [{"image": case["image"], "case": case["case"], "index": number} for number, case in enumerate(cases)]
