"""A set of synthetic lesions against a set of real ones: distances, diversity, and whether lesions were copied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from .errors import InputError
from .lesion_crops import LesionCrop
from .metrics.diversity import feature_spread, pair_similarity, random_pairs, repeated_pairs
from .metrics.features import FeatureSpace
from .metrics.frechet import check_covariance
from .metrics.memorisation import Neighbours, correlation_neighbours, feature_neighbours, share_nearer
from .metrics.resampling import bootstrap, interval, resampled_distances, set_distances
from .seeds import derive_seed

__all__ = ["ComparedSet", "Comparison", "compare"]

LEAST_PATIENTS = 4  # of the real set: two in each half
PAIRS = 1000  # of lesions whose images are compared
PERCENTILES = (1, 5)


@dataclass(frozen=True)
class ComparedSet:
    """Lesions, and their features (n, d) as the extractor gives them."""

    crops: Sequence[LesionCrop]
    features: np.ndarray

    @property
    def patients(self) -> list[str]:
        """Of each lesion."""
        return [crop.patient for crop in self.crops]

    def draw(self, count: int, seed: int) -> ComparedSet:
        """So many of the lesions, drawn from the seed."""
        numbers = np.sort(np.random.default_rng(seed).choice(len(self.crops), count, replace=False))
        return ComparedSet([self.crops[i] for i in numbers], self.features[numbers])


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        report: numbers, lists and dictionaries of these only, as they go into a JSON.
        neighbours: of the synthetic lesions among the training lesions, by the correlation of their voxels.
        reference: of the real lesions, likewise.
    """

    report: dict[str, Any]
    neighbours: Neighbours
    reference: Neighbours


def compare(
    real: ComparedSet,
    synthetic: ComparedSet,
    training: ComparedSet | None,
    names: Sequence[str],
    components: int | None = None,
    repeats: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compares two sets of lesions.

    Args:
        real, synthetic: the sets.
        training: the lesions that the generator learnt from; the real set by default.
        names: of the features.
        components: principal components to compare instead of the features.
        repeats: how often sets are drawn again for an interval.
        seed: of all draws.
        progress: show bars.

    Raises:
        InputError: where a set has too few lesions or patients.
    """
    patients = len(set(real.patients))
    if patients < LEAST_PATIENTS:
        raise InputError(f"the real set has lesions of {patients} patients, its halves need {LEAST_PATIENTS} at least.")
    space = FeatureSpace(real.features, components)
    here, there = space(real.features), space(synthetic.features)
    check_covariance(here, "the real set")
    check_covariance(there, "the synthetic set")
    drawn = resampled_distances(here, real.patients, there, repeats, derive_seed(seed, "distances"), progress)
    whole = set_distances(here, there)
    copied, neighbours, reference = _memorisation(
        real, synthetic, real if training is None else training, space, repeats, seed, progress
    )
    report = {
        "distances": {
            name: {"whole_sets": whole[name], **{key: interval(values) for key, values in part.items()}}
            for name, part in drawn.items()
        },
        "compared_features": here.shape[1],
        "features": _by_feature(names, real.features, synthetic.features, space.kept),
        "diversity": _diversity(real, here, synthetic, there, repeats, seed, progress),
        "memorisation": copied,
    }
    return Comparison(report, neighbours, reference)


def _by_feature(names: Sequence[str], real: np.ndarray, synthetic: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """Mean and deviation of each feature in both sets, and its Wasserstein distance in the real set's deviations."""
    return {
        name: {
            "real_mean": float(one.mean()),
            "real_deviation": float(one.std(ddof=1)),
            "synthetic_mean": float(other.mean()),
            "synthetic_deviation": float(other.std(ddof=1)),
            "wasserstein": float(wasserstein_distance(one, other) / one.std(ddof=1)) if used else None,
        }
        for name, one, other, used in zip(names, real.T, synthetic.T, kept, strict=True)
    }


def _diversity(
    real: ComparedSet,
    here: np.ndarray,
    synthetic: ComparedSet,
    there: np.ndarray,
    repeats: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for key, part, features in (("real", real, here), ("synthetic", synthetic, there)):
        rng = np.random.default_rng(derive_seed(seed, "diversity", key))

        def spread(numbers: np.ndarray, features: np.ndarray = features) -> float:
            drawn, counts = np.unique(numbers, return_counts=True)
            return feature_spread(features[drawn], counts) if len(drawn) > 1 else 0.0

        pairs = random_pairs(len(part.crops), PAIRS, derive_seed(seed, "pairs", key))
        again = repeated_pairs(part.crops)[:PAIRS]
        report[key] = {
            "feature_spread": {"value": feature_spread(features), **bootstrap(spread, [len(features)], repeats, rng)},
            "random_pairs": _similarity(part.crops, pairs, pairs, repeats, rng, progress),
            # Pairs in one mask have little to do with each other: it is they that are drawn again.
            "same_mask_pairs": _similarity(
                part.crops, again, [(i, i) for i in range(len(again))], repeats, rng, progress
            ),
        }
    return report


def _similarity(
    crops: Sequence[LesionCrop],
    pairs: Sequence[tuple[int, int]],
    units: Sequence[tuple[int, int]],
    repeats: int,
    rng: np.random.Generator,
    progress: bool,
) -> dict[str, Any] | None:
    """Mean PSNR (dB, None where two lesions are equal) and SSIM over pairs; None without pairs.

    For the intervals ``units``, numbers of what each pair consists of, are drawn again.
    """
    if not pairs:
        return None
    members = np.array(units)
    size = int(members.max()) + 1
    report: dict[str, Any] = {"pairs": len(pairs)}
    for name, values in pair_similarity(crops, pairs, progress).items():
        if not math.isfinite(values.mean()):
            report[name] = None
            continue
        mean = partial(_drawn_mean, values, members, size)
        report[name] = {"value": float(values.mean()), **bootstrap(mean, [size], repeats, rng)}
    return report


def _drawn_mean(values: np.ndarray, members: np.ndarray, size: int, numbers: np.ndarray) -> float:
    """Mean over pairs, each as often as its two members (or the one that it has) were drawn together."""
    counts = np.bincount(numbers, minlength=size).astype(float)
    first, second = members.T
    weights = np.where(first == second, counts[first], counts[first] * counts[second])
    return float(np.average(values, weights=weights)) if weights.any() else float(values.mean())


def _memorisation(
    real: ComparedSet,
    synthetic: ComparedSet,
    training: ComparedSet,
    space: FeatureSpace,
    repeats: int,
    seed: int,
    progress: bool,
) -> tuple[dict[str, Any], Neighbours, Neighbours]:
    if set(real.patients) >= set(training.patients) and len(set(training.patients)) < 2:
        raise InputError("the training lesions are all of one patient: real ones have no neighbour among the others.")
    learnt = space(training.features)
    same_patient = _equal(real.patients, training.patients)
    same_mask = _equal([crop.site for crop in synthetic.crops], [crop.site for crop in training.crops])
    found = {
        "voxels": (
            correlation_neighbours(synthetic.crops, training.crops, [same_mask], progress),
            correlation_neighbours(real.crops, training.crops, [same_patient], progress)[1],
        ),
        "features": (
            feature_neighbours(space(synthetic.features), learnt, [same_mask]),
            feature_neighbours(space(real.features), learnt, [same_patient])[1],
        ),
    }
    report: dict[str, Any] = {"training_lesions": len(training.crops)}
    for key, ((nearest, of_other_masks), reference) in found.items():
        usable = reference.distance[np.isfinite(reference.distance)]
        for name, own in (("all", nearest), ("other_masks", of_other_masks)):
            if name == "other_masks" and not (same_mask.any() and np.isfinite(own.distance).all()):
                continue
            rng = np.random.default_rng(derive_seed(seed, "memorisation", key, name))
            report.setdefault(key, {})[name] = {
                "synthetic_median": float(np.median(own.distance)),
                "real_median": float(np.median(usable)),
                "nearest_has_the_same_mask": float(same_mask[range(len(own.nearest)), own.nearest].mean()),
                **_shares(own.distance, usable, repeats, rng),
            }
    voxels, features = found["voxels"][0][0], found["features"][0][0]
    report["lesions"] = [
        {
            "lesion": crop.name,
            "nearest_by_voxels": training.crops[voxels.nearest[i]].name,
            "voxel_distance": float(voxels.distance[i]),
            "nearest_by_features": training.crops[features.nearest[i]].name,
            "feature_distance": float(features.distance[i]),
        }
        for i, crop in enumerate(synthetic.crops)
    ]
    return report, voxels, found["voxels"][1]


def _equal(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Pairs (n, m) of equal ones."""
    return np.array(first)[:, None] == np.array(second)[None]


def _shares(synthetic: np.ndarray, real: np.ndarray, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """For each percentile its distance, and the share of synthetic lesions below it with its interval."""

    def share(numbers: np.ndarray, others: np.ndarray, percentile: int) -> float:
        return share_nearer(synthetic[numbers], real[others], percentile)

    return {
        f"nearer_than_percentile_{percentile}": {
            "threshold": float(np.percentile(real, percentile)),
            "value": share_nearer(synthetic, real, percentile),
            **bootstrap(partial(share, percentile=percentile), [len(synthetic), len(real)], repeats, rng),
        }
        for percentile in PERCENTILES
    }
