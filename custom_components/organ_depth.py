"""How deep below an organ's border its voxels lie, and picking places by that depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["OrganDepth"]

MOST_VOXELS = 1 << 21  # in the organ's box; of larger ones only every second, third, ... voxel is considered


class OrganDepth:
    """The voxels of an organ in the order of their distance to its border, computed once for any number of draws.

    The border lies halfway between a voxel inside and its neighbour outside. Where the scan ends within the organ
    there is no border.

    Args:
        organ: (X, Y, Z) bool.
        affine: 4x4, voxel indices to RAS+ mm.
    """

    def __init__(self, organ: np.ndarray, affine: np.ndarray) -> None:
        self.affine, self.shape = affine, np.array(organ.shape)
        self._inverse = np.linalg.inv(affine)
        # Steps in mm from one of the scan's faces inwards, for each step of the index.
        self._face_mm = 1 / np.linalg.norm(self._inverse[:3, :3], axis=1)
        box = _bounding_box(organ)
        spacing_mm, step = np.linalg.norm(affine[:3, :3], axis=0), np.ones(3, int)
        while np.prod([-(-(part.stop - part.start) // s) for part, s in zip(box, step, strict=True)]) > MOST_VOXELS:
            step[np.argmin(spacing_mm * step)] += 1
        part = organ[tuple(slice(p.start, p.stop, s) for p, s in zip(box, step, strict=True))]
        self.voxel_mm = float((spacing_mm * step).min())
        inside = np.argwhere(part)
        if part.all():
            depth_mm = np.full(len(inside), np.inf)
        else:
            distance = ndimage.distance_transform_edt(part, sampling=spacing_mm * step)
            depth_mm = distance[part] - self.voxel_mm / 2
        order = np.argsort(depth_mm, kind="stable")
        self._depth_mm = depth_mm[order]
        self._index = (inside[order] * step + [p.start for p in box]).astype(np.int32)

    def face_distance(self, point_mm: Sequence[float]) -> float:
        """Distance (mm) of a point to the nearest face of the scan."""
        return float((self._to_faces(self._to_index(point_mm))).min())

    def depth_at(self, point_mm: Sequence[float]) -> float:
        """Distance (mm) to the border of the considered voxel nearest to a point."""
        index = self._to_index(point_mm)
        away = ((self._index - index) @ self.affine[:3, :3].T) ** 2
        return float(self._depth_mm[away.sum(axis=1).argmin()])

    def places(
        self,
        low_mm: float,
        high_mm: float,
        margin_mm: float = 0.0,
        taken: Sequence[tuple[Sequence[float], float]] = (),
    ) -> np.ndarray:
        """The centres (N, 3) in mm of voxels whose depth lies within two limits.

        Args:
            low_mm, high_mm: limits of the depth, inclusive.
            margin_mm: least distance to the faces of the scan.
            taken: places (mm) and how far (mm) to stay away from each.
        """
        start, stop = np.searchsorted(self._depth_mm, low_mm), np.searchsorted(self._depth_mm, high_mm, "right")
        index = self._index[start:stop]
        if margin_mm > 0:
            index = index[(self._to_faces(index) >= margin_mm).all(axis=1)]
        centres = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        for place, reach in taken:
            centres = centres[((centres - place) ** 2).sum(axis=1) >= reach**2]
        return centres

    def _to_index(self, point_mm: Sequence[float]) -> np.ndarray:
        return self._inverse[:3, :3] @ np.asarray(point_mm, dtype=float) + self._inverse[:3, 3]

    def _to_faces(self, index: np.ndarray) -> np.ndarray:
        """Distances (mm) of places (..., 3) to the nearer of the scan's two faces along each axis."""
        return np.minimum(index + 0.5, self.shape - 0.5 - index) * self._face_mm


def _bounding_box(organ: np.ndarray) -> tuple[slice, ...]:
    """The box around an organ, with one voxel of its surroundings where there are any."""
    box = []
    for axis, size in enumerate(organ.shape):
        held = np.flatnonzero(organ.any(axis=tuple(k for k in range(3) if k != axis)))
        box.append(slice(max(0, held[0] - 1), min(size, held[-1] + 2)) if len(held) else slice(0, 1))
    return tuple(box)
