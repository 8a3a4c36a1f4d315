"""One synthetic case in the making, and the scans and organs that the cases of a group share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import file_hash
from ..labels import LesionLabels
from ..lesion_library import PlacedLesion
from ..mask_targets import read_organ
from ..specs import CaseLesions
from ..volumes import Scan, check_scan, read_scan
from .scans import SourceScan

__all__ = ["GroupScans", "LoadedScan", "Organ", "SyntheticCase", "list_synthetic_cases"]


@dataclass(frozen=True)
class Organ:
    """Where lesions may lie.

    Attributes:
        mask: (X, Y, Z) bool; None for everywhere.
        anatomy: (X, Y, Z) uint8, the structures that the painting bundle knows, where the organ's file labels them.
        record: of the sidecar: ``source`` (found, given or none), ``file``, ``sha256``, ``volume_ml``.
    """

    mask: np.ndarray | None
    anatomy: np.ndarray | None
    record: dict[str, Any]


@dataclass(frozen=True)
class LoadedScan:
    """A scan in memory, checked, with its organ."""

    image: Scan
    organ: Organ


@dataclass
class SyntheticCase:
    """One case of the set.

    Attributes:
        name: of the case.
        scan: where it comes from.
        image, organ: the scan as read, and its organ.
        sites: a record of each lesion's site for the sidecar; ``lesion`` is filled in once the masks are there.
        lesions: the masks, numbered.
        values: lesion -> the copied lesion with its intensities, where they are copied.
        items: what is to be painted, see :func:`~custom_components.planning.plan_lesions`.
    """

    name: str
    scan: SourceScan
    image: Scan | None = None
    organ: Organ | None = None
    sites: list[dict[str, Any]] = field(default_factory=list)
    lesions: CaseLesions | None = None
    values: dict[int, PlacedLesion] = field(default_factory=dict)
    items: list[dict[str, Any]] = field(default_factory=list)

    def number_sites(self, numbers: list[int]) -> None:
        """Tells each site the number of its lesion, and puts the sites in that order."""
        numbered = [{"lesion": number, **site} for number, site in zip(numbers, self.sites, strict=True)]
        self.sites = sorted(numbered, key=lambda site: site["lesion"])

    def fresh(self) -> SyntheticCase:
        """The case as it was before any work on it; what it held in memory can go."""
        return SyntheticCase(self.name, self.scan)


def list_synthetic_cases(scans: list[SourceScan], cases_per_scan: int) -> list[SyntheticCase]:
    """The cases of a set, sorted by name: one of each scan, or ``<scan>_s1``, ``<scan>_s2``, ...

    Raises:
        InputError: where two cases would share a name.
    """
    names = [""] if cases_per_scan == 1 else [f"_s{number}" for number in range(1, cases_per_scan + 1)]
    cases = sorted(
        (SyntheticCase(scan.name + end, scan) for scan in scans for end in names), key=lambda case: case.name
    )
    for before, after in pairwise(cases):
        if before.name == after.name:
            raise InputError(f"two cases would be named {after.name!r}; rename one of the scans.")
    return cases


class GroupScans:
    """Reads each scan of a group once, with its organ, and keeps it until the next group begins.

    Args:
        labels: the meaning of the painting bundle's label maps.
        find_organ: finds the organ in a scan where no mask of it is given; None: it must be given.
        organ_name: for messages.
        organ_labels: the organ's labels in its file; None: everything above 0.
        air_below: see :func:`~custom_components.volumes.check_scan`.
        needed: whether an organ is needed at all.
    """

    def __init__(
        self,
        labels: LesionLabels,
        find_organ: Callable[[Scan], np.ndarray] | None,
        organ_name: str = "organ",
        organ_labels: tuple[int, ...] | None = None,
        air_below: float | None = None,
        needed: bool = True,
    ) -> None:
        self.labels, self.find_organ, self.organ_name = labels, find_organ, organ_name
        self.organ_labels, self.air_below, self.needed = organ_labels, air_below, needed
        self.held: dict[str, LoadedScan | InputError] = {}

    def clear(self) -> None:
        """Lets go of what is held."""
        self.held = {}

    def __call__(self, scan: SourceScan) -> LoadedScan:
        """A scan with its organ.

        Raises:
            InputError: where it cannot be read or used, again for each of its cases.
        """
        if scan.name not in self.held:
            try:
                self.held[scan.name] = self._load(scan)
            except InputError as error:
                self.held[scan.name] = error
        found = self.held[scan.name]
        if isinstance(found, InputError):
            raise found
        return found

    def _load(self, scan: SourceScan) -> LoadedScan:
        image = read_scan(scan.image)
        check_scan(image, self.air_below)
        return LoadedScan(image, self._organ(scan, image))

    def _organ(self, scan: SourceScan, image: Scan) -> Organ:
        if not self.needed:
            return Organ(None, None, {"source": "none", "file": None, "sha256": None, "volume_ml": None})
        if scan.organ is not None:
            return self._read_organ(scan.organ, image)
        if self.find_organ is None:
            raise InputError(f"image {image.path} has no mask of its {self.organ_name}: --organ_mask must hold one.")
        mask = self.find_organ(image)
        return Organ(
            mask, None, {"source": "found", "file": None, "sha256": None, "volume_ml": _volume_ml(mask, image)}
        )

    def _read_organ(self, path: str, image: Scan) -> Organ:
        _, values, mask = read_organ(path, self.organ_labels, image, "organ mask")
        anatomy = None
        if self.labels.anatomy:
            if self.labels.lesion(values).any():
                raise InputError(f"organ mask {path} holds lesions: new ones are painted into healthy organs only.")
            known = np.isin(values, list(self.labels.anatomy.values()))
            anatomy = np.where(known, values, 0).astype(np.uint8)
        record = {"source": "given", "file": Path(path).name, "sha256": file_hash(path)}
        return Organ(mask, anatomy, {**record, "volume_ml": _volume_ml(mask, image)})


def _volume_ml(mask: np.ndarray, image: Scan) -> float:
    return round(float(mask.sum()) * float(np.abs(np.linalg.det(image.affine[:3, :3]))) / 1000, 3)
