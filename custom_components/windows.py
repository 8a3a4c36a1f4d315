"""Which of a scan's values become -1 and 1 in the network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import InputError

__all__ = ["FixedWindow", "PercentileWindow", "Window"]

# Called with the values (any shape) of a crop's voxels outside its lesions; gives the lower and the upper value.
Window = Callable[[np.ndarray], tuple[float, float]]


class FixedWindow:
    """The same two values for every scan, for units that mean the same everywhere (HU).

    Raises:
        InputError: where the window does not rise.
    """

    def __init__(self, low: float, high: float) -> None:
        if not low < high:
            raise InputError(f"hu_window must rise from its first to its second value, got {[low, high]}.")
        self.low, self.high = float(low), float(high)

    def __call__(self, values: np.ndarray) -> tuple[float, float]:
        return self.low, self.high


class PercentileWindow:
    """Two percentiles of a crop's own values, for units that differ from scan to scan (MR).

    Args:
        lower, upper: percentiles, 0 to 100.

    Raises:
        InputError: where they do not rise within 0 and 100; and, when called, for values that are all alike.
    """

    def __init__(self, lower: float = 1.0, upper: float = 99.0) -> None:
        if not 0 <= lower < upper <= 100:
            raise InputError(f"intensity_percentiles must rise within 0 and 100, got {[lower, upper]}.")
        self.lower, self.upper = lower, upper

    def __call__(self, values: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(values, (self.lower, self.upper))
        if not low < high:
            raise InputError(f"the scan has the same value, {low:g}, nearly everywhere around the lesion.")
        return float(low), float(high)
