"""What the texture control makes of a lesion's histogram (appendix C, Eq. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

__all__ = ["FLOOR", "HistogramResponse", "fit_histogram_response"]

FLOOR = 1e-3  # one voxel of a thousand: shares below it count as this much, since an empty bin has no logarithm


@dataclass(frozen=True)
class HistogramResponse:
    """``log O = r log l + s log h + (p + q)`` bin by bin: l before painting, h requested, O painted.

    Eq. 7 writes the offsets p and q apart, ``(r log l + p) + (s log h + q)``. No data can tell them apart, any amount
    may go from one to the other, so that only their sum is given.

    Attributes:
        r: weight of the histogram before painting.
        s: weight of the requested histogram; 0 where nothing was requested.
        offset: p + q.
        r_squared: share of the variance of log O that the fit explains, 1 at most.
        observations: number of bins fitted, of all sites and controls together.
        floor: shares below it count as this much.
    """

    r: float
    s: float
    offset: float
    r_squared: float
    observations: int
    floor: float = FLOOR

    def predict(self, before: np.ndarray, requested: np.ndarray | None = None, renormalise: bool = True) -> np.ndarray:
        """The painted histogram that Eq. 8 tells, ``O = exp(m)``.

        Args:
            before: (..., num_bins), each summing to 1.
            requested: the same shape; None where nothing is requested.
            renormalise: divide the bins by their sum, which Eq. 8 leaves as it comes. The offset then has no effect.

        Returns:
            (..., num_bins) float64.
        """
        exponent = self.r * _logarithm(before, self.floor) + self.offset
        if requested is not None:
            exponent = exponent + self.s * _logarithm(requested, self.floor)
        painted = np.exp(exponent)
        return painted / painted.sum(axis=-1, keepdims=True) if renormalise else painted


def fit_histogram_response(
    before: np.ndarray, requested: np.ndarray | None, achieved: np.ndarray, floor: float = FLOOR
) -> HistogramResponse:
    """Least squares of Eq. 7 over all bins, sites and controls.

    Empty bins count too, at the floor: that nothing is painted where nothing was and nothing is requested is part of
    what the control does. Leaving out bins by what was achieved in them would bias the fit.

    Args:
        before, requested, achieved: (..., num_bins) each, histograms of the lesion's region that sum to 1;
            ``requested`` is None where nothing was requested, and s is 0 then.
        floor: shares below it count as this much.

    Raises:
        InputError: for shapes that differ, a floor outside (0, 1), or histograms too few or too alike to tell the
            weights apart.
    """
    if not 0 < floor < 1:
        raise InputError(f"floor must lie between 0 and 1, got {floor!r}.")
    inputs = [before] if requested is None else [before, requested]
    shapes = {np.shape(values) for values in (*inputs, achieved)}
    if len(shapes) > 1:
        raise InputError(f"the histograms must have one shape, got {sorted(shapes)}.")
    columns = [_logarithm(values, floor).ravel() for values in inputs]
    target = _logarithm(achieved, floor).ravel()
    design = np.column_stack([*columns, np.ones(len(target))])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(f"{len(target)} bins are too few or too alike to fit {design.shape[1]} numbers to them.")
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    rest = ((target - design @ solution) ** 2).sum()
    spread = ((target - target.mean()) ** 2).sum()
    return HistogramResponse(
        r=float(solution[0]),
        s=0.0 if requested is None else float(solution[1]),
        offset=float(solution[-1]),
        r_squared=float(1 - rest / spread) if spread > 0 else 1.0,
        observations=len(target),
        floor=float(floor),
    )


def _logarithm(histogram: np.ndarray, floor: float) -> np.ndarray:
    return np.log(np.maximum(np.asarray(histogram, dtype=np.float64), floor))
