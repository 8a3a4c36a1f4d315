"""How sure a distance between sets is: what it becomes when the sets are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from .frechet import frechet_distance
from .kernel import kernel_distance
from .sliced_wasserstein import sliced_wasserstein

__all__ = ["DISTANCES", "bootstrap", "halves_by_patient", "interval", "resampled_distances", "set_distances"]

DISTANCES = ("frechet", "kernel", "sliced_wasserstein")


def set_distances(
    first: np.ndarray,
    second: np.ndarray,
    first_counts: np.ndarray | None = None,
    second_counts: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Each of :data:`DISTANCES` between two sets of standardised features (n, d) and (m, d).

    Args:
        first, second: the sets.
        first_counts, second_counts: how often each lesion counts; once by default.
        seed: of the sliced distance's directions.
    """
    repeated = [
        values if counts is None else np.repeat(values, counts, axis=0)
        for values, counts in ((first, first_counts), (second, second_counts))
    ]
    return {
        "frechet": frechet_distance(*repeated),
        "kernel": kernel_distance(first, second, first_counts, second_counts),
        "sliced_wasserstein": sliced_wasserstein(*repeated, seed=seed),
    }


def halves_by_patient(patients: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the lesions of two random halves of a set; the lesions of a patient are in one of them."""
    names = np.array(patients)
    order = rng.permutation(np.unique(names))
    chosen = np.isin(names, order[: len(order) // 2])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def resampled_distances(
    real: np.ndarray,
    patients: Sequence[str],
    synthetic: np.ndarray,
    repeats: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
    """A half of the real set against its other half, and against the synthetic set, all as large as each other.

    Each time the real set is split anew by patient, and of both halves and of the synthetic set as many lesions are
    drawn, with repetition, as the smallest of the three has. Distances estimated from few lesions are too large, and
    those from drawn ones more so; both comparisons share that, and their difference is nearly free of it.

    Args:
        real, synthetic: standardised features (n, d) and (m, d), m at least 2.
        patients: (n,), of the real lesions, at least four different ones.
        repeats: how often the sets are drawn.
        seed: of all draws.
        progress: show a bar.

    Returns:
        Of each distance ``halves`` (the floor), ``synthetic`` and their ``difference`` (synthetic less halves), each
        (repeats,).
    """
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, list[float]]] = {name: {"halves": [], "synthetic": []} for name in DISTANCES}
    for _ in tqdm(range(repeats), desc="drawing sets again", delay=1, disable=not progress):
        first, second = (real[half] for half in halves_by_patient(patients, rng))
        size = min(len(first), len(second), len(synthetic))
        drawn = [_draw(values, size, rng) for values in (first, second, synthetic)]
        directions = int(rng.integers(2**31))
        for key, (values, counts) in zip(("halves", "synthetic"), drawn[1:], strict=True):
            for name, value in set_distances(drawn[0][0], values, drawn[0][1], counts, directions).items():
                found[name][key].append(value)
    arrays = {name: {key: np.array(values) for key, values in part.items()} for name, part in found.items()}
    return {name: {**part, "difference": part["synthetic"] - part["halves"]} for name, part in arrays.items()}


def _draw(values: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows drawn with repetition: those drawn, and how often each was; at least two different ones."""
    while True:
        numbers, counts = np.unique(rng.integers(len(values), size=size), return_counts=True)
        if len(numbers) > 1:
            return values[numbers], counts


def interval(values: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """``median``, ``low`` and ``high`` of resampled values: the middle ones that make up the level."""
    low, median, high = np.quantile(values, ((1 - level) / 2, 0.5, (1 + level) / 2))
    return {"median": float(median), "low": float(low), "high": float(high)}


def bootstrap(
    measure: Callable[..., float], sizes: Sequence[int], repeats: int, rng: np.random.Generator
) -> dict[str, float]:
    """Interval of a measure of sets whose members are drawn again with repetition.

    Args:
        measure: takes for each set the numbers drawn, (size,).
        sizes: of the sets.
        repeats: how often.
        rng: source of the draws.
    """
    return interval(np.array([measure(*(rng.integers(size, size=size) for size in sizes)) for _ in range(repeats)]))
