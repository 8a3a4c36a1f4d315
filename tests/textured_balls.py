"""A small grid with a ball in it and noise on it, for tests of measures."""

from __future__ import annotations

import numpy as np

GRID = (16, 16, 16)


def ball(radius: float, grid: tuple[int, ...] = GRID, centre: float | None = None) -> np.ndarray:
    """Voxels (X, Y, Z) bool within a radius of the middle; ``centre`` is that of every axis."""
    middle = (grid[0] - 1) / 2 if centre is None else centre
    return ((np.indices(grid) - middle) ** 2).sum(axis=0) <= radius**2


def picture(seed: int, grid: tuple[int, ...] = GRID) -> np.ndarray:
    """Even noise in [-1, 1], float32."""
    return np.random.default_rng(seed).uniform(-1, 1, grid).astype(np.float32)
