"""What holds of the painting of every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bundle_runs import Output


def assert_painted_inside_alone_and_the_same_again(
    paint: Callable[..., Output], folder: Path, before: np.ndarray, lesion: np.ndarray
) -> Output:
    """Paints with one seed, with the same one, and with another; returns the first painting.

    Args:
        paint: called with an output folder and ``seed``.
        before: the scan's stored voxels (X, Y, Z).
        lesion: what is to be painted, (X, Y, Z) bool.
    """
    first, again, other = (paint(folder / str(n), seed=seed) for n, seed in enumerate((0, 0, 1)))
    assert first.stored.dtype == before.dtype
    assert np.array_equal(first.stored[~lesion], before[~lesion])
    assert (first.stored[lesion] != before[lesion]).mean() > 0.8
    assert np.array_equal(first.stored, again.stored)
    assert not np.array_equal(first.stored, other.stored)
    assert (first.sidecar["background"], first.sidecar["max_abs_difference_outside_mask"]) == ("scan", 0)
    return first
