"""Which of a scan's values become -1 and 1 in the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .errors import InputError

__all__ = ["FixedWindow", "PercentileWindow", "Window", "choose_window"]

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
        headroom: share of their distance by which the window is wider on either side, for lesions that are darker or
            brighter than everything around them.

    Raises:
        InputError: where they do not rise within 0 and 100, or for a headroom below 0; and, when called, for values
            that are all alike.
    """

    def __init__(self, lower: float = 1.0, upper: float = 99.0, headroom: float = 0.0) -> None:
        if not 0 <= lower < upper <= 100:
            raise InputError(f"intensity_percentiles must rise within 0 and 100, got {[lower, upper]}.")
        if not headroom >= 0:
            raise InputError(f"intensity_headroom must not be negative, got {headroom}.")
        self.lower, self.upper, self.headroom = lower, upper, headroom

    def __call__(self, values: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(values, (self.lower, self.upper))
        if not low < high:
            raise InputError(f"the scan has the same value, {low:g}, nearly everywhere around the lesion.")
        wider = self.headroom * (high - low)
        return float(low - wider), float(high + wider)


def choose_window(
    hu_window: Sequence[float] | None = None,
    intensity_percentiles: Sequence[float] | None = None,
    headroom: float = 0.0,
) -> Window:
    """A :class:`FixedWindow` where ``hu_window`` gives two values, else a :class:`PercentileWindow`.

    Raises:
        InputError: where neither or both are given, or one of them is not two rising numbers.
    """
    given = {"hu_window": hu_window, "intensity_percentiles": intensity_percentiles}
    given = {name: values for name, values in given.items() if values is not None}
    if len(given) != 1:
        raise InputError(f"one of hu_window and intensity_percentiles must be null, got {len(given)} of them set.")
    for name, values in given.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
            raise InputError(f"{name} must be two rising numbers, got {values!r}.")
    return FixedWindow(*hu_window) if hu_window is not None else PercentileWindow(*intensity_percentiles, headroom)
