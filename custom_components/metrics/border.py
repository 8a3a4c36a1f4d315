"""How smoothly a lesion joins its surroundings (appendix E: smoothness where lesion and background meet)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["border_steps"]


def border_steps(values: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Mean steps of the values, per mm, across the border of a mask and beside it.

    Each face between a voxel of the mask and one outside is a step ``across``; those to the next voxel on the same
    line, farther in and farther out, are steps ``within`` and ``around``, where that voxel lies on the same side. A
    lesion with a natural, blurred edge has steps of much the same size before, at and behind its border; a seam has
    one large step at the border itself.

    Args:
        values: (X, Y, Z) in any unit.
        mask: (X, Y, Z) bool.
        spacing_mm: voxel size along each axis.

    Returns:
        ``across``, ``within`` and ``around`` in units a mm, and ``seam``: across over the mean of the other two.
        What no voxel tells is NaN.
    """
    values, mask = np.asarray(values, dtype=np.float64), np.asarray(mask, dtype=bool)
    found: dict[str, list[np.ndarray]] = {"across": [], "within": [], "around": []}
    for axis, step in enumerate(spacing_mm):
        for v, m in ((values, mask), (np.flip(values, axis), np.flip(mask, axis))):
            v, m = np.moveaxis(v, axis, 0), np.moveaxis(m, axis, 0)
            faces = m[:-1] & ~m[1:]
            steps = np.abs(np.diff(v, axis=0)) / step
            found["across"].append(steps[faces])
            found["within"].append(steps[:-1][faces[1:] & m[:-2]])
            found["around"].append(steps[1:][faces[:-1] & ~m[2:]])
    means = {name: _mean(np.concatenate(parts)) for name, parts in found.items()}
    beside = (means["within"] + means["around"]) / 2
    return {**means, "seam": means["across"] / beside if beside > 0 else float("nan")}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
