"""Lesion masks of one heart, laid into the wall of another: the paper's "copied masks" (section 4, tables 1 and 2).

A target voxel asks the source for the lesion at its own place in the wall (angle around the left ventricle, relative
depth, relative height from the apex to the base), so that neither different sizes nor different numbers of slices tear
holes into the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from .errors import InputError
from .ventricular_coordinates import WallSlice, WallStack, wall_stack

__all__ = ["copy_lesions"]

NEIGHBOURS = 9  # source voxels that a target voxel listens to


def copy_lesions(
    source: np.ndarray,
    source_affine: np.ndarray,
    target: np.ndarray,
    target_affine: np.ndarray,
    *,
    cavity: int = 1,
    myocardium: int = 2,
    classes: Sequence[int] = (3, 4),
    rotation_deg: float = 0.0,
    names: tuple[str, str] = ("the source", "the target"),
) -> np.ndarray:
    """The target's label map with the source's lesions in its myocardium, (X, Y, Z) uint8 on the target's grid.

    Angles are not counted from a landmark (where the right ventricle meets the left one is not labelled): a lesion
    keeps its direction in RAS+ as seen from the middle of the cavity, up to the turn that takes the source's slice
    plane to the target's. Hearts that lie differently in their bodies need a rotation.

    Args:
        source: (X, Y, Z), labels of a short-axis stack with lesions.
        target: (X', Y', Z'), labels of a short-axis stack without.
        source_affine, target_affine: 4x4, voxel indices to RAS+ mm.
        cavity, myocardium: labels of the left ventricle's cavity and wall.
        classes: labels of the lesions that lie in the wall.
        rotation_deg: turns the lesions around the cavity's middle, from the target's first in-plane array axis to its
            second.
        names: how an error calls source and target.

    Raises:
        InputError: for label maps that hold other labels or lack cavity, wall or lesion, a target that has lesions
            of its own, or a result without lesion.
    """
    _check_labels(source, target, cavity, myocardium, tuple(classes), names)
    there = wall_stack(source, source_affine, cavity, (myocardium, *classes))
    here = wall_stack(target, target_affine, cavity, (myocardium,))
    turn = _turn(here, there, rotation_deg)
    fields = [_DistanceField(part, source, classes) for part in there.slices]
    distances = []
    for number, part in enumerate(here.slices):
        height = (number + 0.5) / len(here.slices)
        position = np.clip(height * len(there.slices) - 0.5, 0, len(there.slices) - 1)
        below, weight = int(position), position % 1
        distance = fields[below](part, turn)
        if weight:
            distance = (1 - weight) * distance + weight * fields[below + 1](part, turn)
        distances.append(distance)
    index, distance = np.concatenate([part.index for part in here.slices]), np.concatenate(distances)
    limit_mm, size = there.slices[0].voxel_mm, np.isin(source, classes).sum()
    share = size / sum(len(part.index) for part in there.slices)
    lesion = distance[:, 0] < _level(distance[:, 0], share, limit_mm)
    if not lesion.any():
        raise InputError(f"no voxel of the lesion of {names[0]} falls into the myocardium of {names[1]}.")
    of_class = distance[lesion, 1:]
    for column in range(1, len(classes)):  # among the lesions, too, each class keeps its share
        others = np.delete(of_class, column, axis=1).min(axis=1)
        share = (source == classes[column]).sum() / size
        of_class[:, column] -= _level(of_class[:, column] - others, share, limit_mm)
    result = target.astype(np.uint8)
    result[tuple(index[lesion].T)] = np.asarray(classes, dtype=np.uint8)[of_class.argmin(axis=1)]
    return result


def _check_labels(
    source: np.ndarray, target: np.ndarray, cavity: int, myocardium: int, classes: tuple[int, ...], names: Sequence[str]
) -> None:
    if len({0, cavity, myocardium, *classes}) != 3 + len(classes) or not classes:
        raise InputError(
            f"cavity {cavity}, myocardium {myocardium} and lesion classes {classes} must be different labels above 0."
        )
    for labels, name in ((source, names[0]), (target, names[1])):
        strange = np.setdiff1d(labels, (0, cavity, myocardium, *classes))
        if strange.size:
            raise InputError(f"{name} holds the label {strange[0]:g}, which is neither anatomy nor lesion.")
        if not (labels == cavity).any():
            raise InputError(f"{name} has no cavity (label {cavity}).")
    if not np.isin(source, classes).any():
        raise InputError(f"{names[0]} has no lesion (labels {', '.join(map(str, classes))}).")
    if not (target == myocardium).any():
        raise InputError(f"{names[1]} has no myocardium (label {myocardium}).")
    if np.isin(target, classes).any():
        raise InputError(f"{names[1]} has lesions of its own; lesions are copied into healthy hearts only.")


def _turn(here: WallStack, there: WallStack, rotation_deg: float) -> np.ndarray:
    """(2, 2), from in-plane directions of the target to those of the source: the orthogonal matrix nearest to the
    projection of one plane onto the other, after the wanted rotation has been undone."""
    left, _, right = np.linalg.svd(there.axes @ here.axes.T)
    cos, sin = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    return left @ right @ np.array([[cos, sin], [-sin, cos]])


def _on_ring(part: WallSlice, radius_mm: float, thickness_mm: float, turn: np.ndarray) -> np.ndarray:
    """The voxels of a slice on a circular ring of the given size, (M, 2) mm."""
    reach = radius_mm + part.depth * thickness_mm
    return (turn @ (reach * np.stack([np.cos(part.angle), np.sin(part.angle)]))).T


def _level(distance: np.ndarray, share: float, limit_mm: float) -> float:
    """The signed distance below which a given share of the wall lies, or the nearest one within the limit.

    Halfway between a slice with a lesion and one without, little lies below 0: small lesions would fade away.
    """
    ordered, count = np.sort(distance), round(share * len(distance))
    level = (ordered[max(count - 1, 0)] + ordered[min(count, len(ordered) - 1)]) / 2
    return float(np.clip(level, -limit_mm, limit_mm))


class _DistanceField:
    """How far any place in the wall of a source slice is from the lesions' edges, inside being negative.

    Between slices, distances give coherent shapes where shares of lesion would tear into specks.

    Args:
        part: the slice.
        source: the label map it belongs to.
        classes: the lesions' labels.
    """

    def __init__(self, part: WallSlice, source: np.ndarray, classes: Sequence[int]) -> None:
        self.size = part.cavity_radius_mm, part.thickness_mm
        # So narrow a bell that a voxel outweighs all its neighbours: a heart copied onto itself stays as it is.
        self.sigma_mm = part.voxel_mm / 2
        points = _on_ring(part, *self.size, np.eye(2))
        labels = source[tuple(part.index.T)]
        insides = [np.isin(labels, classes), *(labels == one for one in classes)]
        limit_mm = part.thickness_mm / 2
        self.values = np.stack([_signed_distance(points, inside, limit_mm) for inside in insides], axis=1)
        self.tree = cKDTree(points)

    def __call__(self, part: WallSlice, turn: np.ndarray) -> np.ndarray:
        """For the M voxels of a slice of another heart: (M, 1 + classes) mm, to any lesion and to each class."""
        neighbours = min(NEIGHBOURS, len(self.values))
        distance, nearest = self.tree.query(_on_ring(part, *self.size, turn), k=list(range(1, neighbours + 1)))
        # From the nearest distance on: far from every source voxel the bell would vanish.
        weight = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * self.sigma_mm**2))
        return (weight[..., None] * self.values[nearest]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def _signed_distance(points: np.ndarray, inside: np.ndarray, limit_mm: float) -> np.ndarray:
    """Distance (M,) mm of each point to the nearest one of the other side, negative inside, at most the limit."""
    distance = np.full(len(points), limit_mm)
    if inside.any() and not inside.all():
        distance[inside] = cKDTree(points[~inside]).query(points[inside])[0]
        distance[~inside] = cKDTree(points[inside]).query(points[~inside])[0]
    return np.minimum(distance, limit_mm) * np.where(inside, -1, 1)
