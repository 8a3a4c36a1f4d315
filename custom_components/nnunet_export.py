"""A mixture of lists as a raw data set of nnU-Net v2."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .datasets import require_lesion
from .errors import InputError
from .files import write_atomically
from .labels import LesionLabels
from .synthesis.layouts import NNUNetLayout
from .synthesis.layouts.folds import FOLDS, folds_of
from .synthesis.layouts.names import PORTABLE, file_name
from .volumes import Scan, check_same_grid, check_scan, read_nifti, read_scan, write_scan

__all__ = ["NNUNetExport"]

MARK = b"SYNTHETIC"  # how the header of a painted scan begins


class NNUNetExport:
    """Writes ``DatasetNNN_Name/{imagesTr,labelsTr,imagesTs,labelsTs,dataset.json,splits_final.json}``.

    Names and label values are those of :class:`~custom_components.synthesis.layouts.NNUNetLayout`: one channel, labels
    1, 2, ... in the order of the classes' values, everything else background. A case that its list repeats is written
    that many times, since nnU-Net draws all cases alike. Scans keep their voxels, units and grid.

    ``splits_final.json`` deals the patients of real cases out to five folds. What is validated on is real, and there
    once; training leaves out every case of the fold's patients, those painted into their scans as well.

    Args:
        root: folder that becomes ``nnUNet_raw``.
        labels: the lesion classes.
        dataset_id: 1 to 999.
        name: of the data set.
        modality: of the images: ``CT``, or another name.

    Raises:
        InputError: for a number out of range, and as NNUNetLayout.
    """

    def __init__(
        self,
        root: str | Path,
        labels: LesionLabels,
        dataset_id: int = 501,
        name: str = "LesionMix",
        modality: str = "CT",
    ) -> None:
        if isinstance(dataset_id, bool) or not isinstance(dataset_id, int) or not 1 <= dataset_id <= 999:
            raise InputError(f"dataset_id must be a whole number from 1 to 999, got {dataset_id!r}.")
        self.layout = NNUNetLayout(root, labels, f"Dataset{dataset_id:03d}_{name}", modality=modality)
        self.folder = self.layout.folder

    def write(self, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]] = ()) -> dict[str, int]:
        """Writes the cases (see :func:`~custom_components.case_lists.read_lists`) and the set's own files.

        The folder appears whole or not at all.

        Returns:
            How many cases there are for training and for the test, and how many of them are synthetic.

        Raises:
            InputError: where scans cannot be read or hold NaN, a label map does not lie on its scan's grid or has
                fractions, or nothing to train on holds a lesion.
        """
        require_lesion(train, self.layout.labels)
        partial = self.folder.with_name(f".partial-{self.folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            counts = self._write(partial, train, test)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            partial.rename(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return counts

    def _write(
        self, folder: Path, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]
    ) -> dict[str, int]:
        cases = [(case, "Tr", copy) for case in train for copy in range(int(case.get("repeats", 1)))]
        cases += [(case, "Ts", 0) for case in test]
        names = _names([str(case["case"]) for case, *_ in cases])
        records = []
        for (case, part, copy), name in zip(tqdm(cases, desc="cases", delay=10), names, strict=True):
            synthetic = self._write_case(folder, part, name, case)
            records.append(
                {"name": name, "scan": str(case["patient"]), "synthetic": synthetic, "part": part, "copy": copy}
            )
        training = [record for record in records if record["part"] == "Tr"]
        splits = _splits(training)
        content = {
            "channel_names": {"0": self.layout.modality},
            "labels": {"background": 0, **dict(sorted(self.layout.label_values.items(), key=lambda entry: entry[1]))},
            "numTraining": len(training),
            "file_ending": ".nii.gz",
            "name": self.folder.name,
            "description": "real and SYNTHETIC cases; research use only",
        }
        for name, value in (("splits_final.json", splits), ("dataset.json", content)):
            if value:
                text = json.dumps(value, indent=2) + "\n"
                write_atomically(folder / name, lambda path, text=text: path.write_text(text))
        return {
            "training": len(training),
            "test": len(records) - len(training),
            "synthetic": sum(record["synthetic"] for record in training),
            "folds": len(splits),
        }

    def _write_case(self, folder: Path, part: str, name: str, case: Mapping[str, Any]) -> bool:
        """Writes one case; returns whether it is synthetic, by its set's manifest or by its header."""
        scan, label = read_scan(case["image"]), read_nifti(Path(case["label"]), "label")
        check_scan(scan, air_below=None)
        check_same_grid(label, scan, "label")
        values = label.values()
        if not np.array_equal(values, np.rint(values)):
            raise InputError(f"label {label.path} must hold whole numbers.")
        known = np.where(self.layout.labels.lesion(values), values, 0).astype(np.uint8)
        image = folder / f"images{part}" / f"{name}_0000.nii.gz"
        write_scan(scan, scan.stored, image)
        write_scan(scan, self.layout.stored_label(known), folder / f"labels{part}" / f"{name}.nii.gz", scaled=False)
        return bool(case.get("synthetic")) or _is_marked(scan)


def _is_marked(scan: Scan) -> bool:
    return scan.header is not None and bytes(scan.header["descrip"].item()).startswith(MARK)


def _names(cases: Sequence[str]) -> list[str]:
    """A file name of its own for each case; the second of a name ends in -2, and so on."""
    found: list[str] = []
    taken: set[str] = set()
    for case in cases:
        name = file_name(case, PORTABLE)
        copies = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        found.append(next(name for name in copies if name not in taken))
        taken.add(found[-1])
    return found


def _splits(records: Sequence[Mapping[str, Any]]) -> list[dict[str, list[str]]]:
    """Case names of the two parts of each fold; none where there are fewer real patients than folds."""
    real = [record for record in records if not record["synthetic"]]
    if len({record["scan"] for record in real}) < FOLDS:
        return []
    fold_of = dict(zip((record["scan"] for record in real), folds_of(real), strict=True))
    return [
        {
            "train": [record["name"] for record in records if fold_of.get(record["scan"]) != number],
            "val": [record["name"] for record in real if fold_of[record["scan"]] == number and not record["copy"]],
        }
        for number in range(FOLDS)
    ]
