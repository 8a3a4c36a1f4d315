# SPDX-License-Identifier: Apache-2.0
"""Fit the texture presets: cluster centres of the training lesions' histograms (section 3.2, appendix F)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from scipy.cluster.vq import ClusterError, kmeans2, vq
from scipy.stats import spearmanr
from tqdm import tqdm

from custom_components.bundle_configs import bundle_root
from custom_components.conditioners import NUM_BINS, histogram_mean, lesion_histogram
from custom_components.errors import InputError
from custom_components.files import check_free, write_atomically

from .training_cases import read_item, split_cases, training_config

RESTARTS = 50
LEAST_DIFFERENCE = 0.1  # a twentieth of [-1, 1], between the means of neighbouring presets where there is a choice
RANK_OF_SCORE = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2}  # texture score: 1 ground glass, 3 part-solid, 5 solid


def read_lesions(
    cases: Sequence[dict[str, Any]], transform: Compose, hu_window: Sequence[float], channel: int = 0
) -> dict:
    """Histograms (count, NUM_BINS), mean within the window (count,), scores (count,), 0 where absent.

    Of the class in ``channel`` of the label, over the cases that have it.
    """
    low, high = hu_window
    histograms, means, scores = [], [], []
    for case in tqdm(cases, desc="reading lesions", delay=1, leave=False):
        item = read_item(case, transform)
        image, mask = torch.as_tensor(item["image"])[0], torch.as_tensor(item["label"])[channel]
        if len(item["label"]) > 1 and not (mask > 0).any():
            continue
        histograms.append(lesion_histogram(image, mask).double().numpy())
        if abs(histograms[-1].sum() - 1) > 1e-3:
            raise InputError(f"case {case['case']} has an empty mask, or voxels that are not numbers.")
        means.append(low + (float(image[mask > 0].mean()) + 1) / 2 * (high - low))
        scores.append(case.get("texture"))
    return {
        "histograms": np.array(histograms).reshape(-1, NUM_BINS),
        "mean_hu": np.array(means),
        "scores": np.array([score if score in RANK_OF_SCORE else 0 for score in scores], dtype=int),
    }


def cluster(histograms: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Centres (clusters, NUM_BINS) of the k-means with the lowest inertia, by rising mean intensity."""
    rng = np.random.default_rng(seed)
    best, lowest = None, np.inf
    for _ in range(RESTARTS):
        try:
            centres, _ = kmeans2(histograms, clusters, iter=100, minit="++", missing="raise", seed=rng)
        except ClusterError:  # a cluster ran empty
            continue
        inertia = (vq(histograms, centres)[1] ** 2).sum()
        if inertia < lowest - 1e-12:
            best, lowest = centres, inertia
    if best is None:
        raise InputError(f"found no {clusters} clusters among {len(histograms)} training lesions.")
    return best[np.argsort(best @ np.arange(NUM_BINS))]


def compare(lesions: Mapping[str, np.ndarray], centres: np.ndarray, digits: int = 1) -> dict[str, Any]:
    """How the nearest centre of each lesion agrees with its score; None where that is undefined."""
    mean_hu, scores = lesions["mean_hu"], lesions["scores"]
    ranks = vq(lesions["histograms"], centres)[0] if len(scores) else scores
    rows = [ranks == rank for rank in range(len(centres))]
    scored = scores > 0
    report: dict[str, Any] = {
        "count": len(scores),
        "scored": int(scored.sum()),
        "sizes": [int(row.sum()) for row in rows],
        "mean_hu": [round(float(mean_hu[row].mean()), digits) if row.any() else None for row in rows],
        "contingency": [np.bincount(scores[row], minlength=6)[1:6].tolist() for row in rows],
        "agreement": None,
        "commonest": None,
    }
    for name, values in (("spearman_cluster", ranks), ("spearman_mean", mean_hu)):
        varied = all(len(np.unique(side[scored])) > 1 for side in (values, scores))
        report[name] = round(float(spearmanr(values[scored], scores[scored])[0]), 3) if varied else None
    if len(centres) == 3 and scored.any():
        wanted = np.array([RANK_OF_SCORE[score] for score in scores[scored]])
        report["agreement"] = round(float((ranks[scored] == wanted).mean()), 3)
        report["commonest"] = round(float(np.bincount(wanted).max() / len(wanted)), 3)
    return report


def print_report(title: str, report: Mapping[str, Any], names: Sequence[str], unit: str) -> None:
    width = max(len(name) for name in names)
    scored = report["scored"] > 0
    print(f"{title}: {report['count']} lesions" + (f", {report['scored']} with a texture score" if scored else ""))
    header = "".join(f"{f'score {score}':>9}" for score in range(1, 6)) if scored else ""
    print(f"{'preset':<{width}}  lesions  {unit:>7}{header}")
    for rank, name in enumerate(names):
        size, mean, row = (report[key][rank] for key in ("sizes", "mean_hu", "contingency"))
        mean = "-" if mean is None else f"{mean:.{0 if unit == 'mean HU' else 2}f}"
        counts = "".join(f"{count:>9}" for count in row) if scored else ""
        print(f"{name:<{width}}  {size:>7}  {mean:>7}{counts}")
    if scored:
        print(f"Spearman with the score: cluster {report['spearman_cluster']}, mean {report['spearman_mean']}")
    if report["agreement"] is not None:
        mapping = "1-2 -> {}, 3-4 -> {}, 5 -> {}".format(*names)
        print(f"agreement {report['agreement']} under {mapping}; best single preset {report['commonest']}")
    print()


def fit_class(
    split: Mapping[str, Sequence[dict[str, Any]]],
    transform: Compose,
    window: Sequence[float],
    channel: int,
    choices: Sequence[Sequence[str]],
    seed: int,
    data: str,
    unit: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Presets of one lesion class as they go into the file, and the report on both parts of the split.

    Of several ``choices`` of names it is the first whose clusters differ from their neighbours, or the last.
    """
    lesions = {part: read_lesions(split[part], transform, window, channel) for part in split}
    count = len(lesions["training"]["histograms"])
    different, centres = len(np.unique(lesions["training"]["histograms"], axis=0)), np.zeros((0, NUM_BINS))
    for names in choices:
        if different < len(names):
            if names is choices[-1]:
                raise InputError(f"{count} training lesions are too few for {len(names)} clusters.")
            continue
        centres = cluster(lesions["training"]["histograms"], len(names), seed)
        if (np.diff([histogram_mean(centre) for centre in centres]) >= LEAST_DIFFERENCE).all():
            break
    report = {part: compare(lesions[part], centres, 1 if unit == "mean_hu" else 3) for part in split}
    centres = np.round(centres / centres.sum(axis=1, keepdims=True), 6)
    centres[range(len(names)), centres.argmax(axis=1)] += 1 - centres.sum(axis=1)
    found = {
        "presets": dict(zip(names, centres.round(6).tolist(), strict=True)),
        "fitted_on": {
            "count": count,
            "data": data,
            "cluster_sizes": dict(zip(names, report["training"]["sizes"], strict=True)),
            unit: dict(zip(names, report["training"]["mean_hu"], strict=True)),
        },
    }
    return found, report


def fit_presets(
    dataset_dir: str,
    output: str | None = None,
    names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    val_fraction: float | None = None,
    hu_window: Sequence[float] | None = None,
    seed: int = 0,
    bundle: str = "lefusion_lidc",
    overwrite: bool = False,
    config: str | Sequence[str] = (),
    fallbacks: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """Cluster the training lesions' texture histograms and write the centres as named presets.

    It is k-means on the histograms themselves. On 72 training and 28 validation nodules of LIDC-IDRI that
    agrees better with the radiologists' texture score than k-means on cumulative histograms: Spearman 0.53
    and 0.59 against 0.45 and 0.53, agreement 0.49 and 0.57 against 0.44 and 0.54. Validation lesions take no
    part in the fit; they are assigned to the nearest centre and reported apart.

    Args:
        dataset_dir: images with lesion masks, as ``custom_components.datasets.list_cases`` takes them.
            ``texture`` (1-5) in a datalist is the radiologists' score, used for the report only.
        output: JSON file to write; ``configs/texture_presets.json`` of the bundle by default.
        names: the presets' names, by rising mean intensity, one cluster for each; for several lesion classes a
            dictionary, class -> names. Those of the bundle's present presets by default.
        val_fraction: share of patients held out; the bundle's own by default.
        hu_window: the two HU values that become -1 and 1, values outside are clipped; the bundle's own by default.
        seed: of the k-means starts.
        bundle: name or folder of the bundle whose training transforms read the data.
        overwrite: replace an existing output.
        config: overlays over the bundle's training config, see ``lefusion run``.
        fallbacks: fewer names, for a class whose neighbouring presets would differ in their means by less than a
            twentieth of the window.

    Returns:
        ``training`` and ``validation`` (for several classes: class -> these), each with ``count``, ``scored``,
        ``sizes``, ``mean_hu`` (over a cluster's lesions, of the mean inside the mask; in units of [-1, 1] where the
        bundle has no HU window), ``contingency`` (preset x score 1-5), ``spearman_cluster`` and ``spearman_mean``
        (with the score), ``agreement`` (share of lesions whose score is 1-2, 3-4 or 5 in the first, second or third
        preset), ``commonest`` (that share if all lesions were given the best single preset).

    Raises:
        InputError: for an existing output without ``overwrite``, names that do not fit the classes, an empty
            window, data that cannot be read, or fewer different lesions than clusters.
    """
    shipped = bundle_root(bundle) / "configs" / "texture_presets.json"
    target = shipped if output is None else Path(output)
    check_free(target, overwrite)
    parser = training_config(bundle, config)
    classes = list(parser.get("lesion_classes", {"lesion": 1}))
    names = names_by_class(names, classes, shipped)
    if hu_window is not None:
        if len(hu_window) != 2 or not hu_window[0] < hu_window[1]:
            raise InputError(f"hu_window must be two rising numbers, got {hu_window!r}.")
        if parser.get("hu_window") is None:
            raise InputError(f"bundle {bundle} has no hu_window.")
        parser["hu_window"] = list(hu_window)
    split, data = split_cases(parser, dataset_dir, val_fraction)
    transform = Compose(parser.get_parsed_content("load_and_normalise"))
    in_hu = parser.get("hu_window") is not None
    window, unit = (parser["hu_window"], "mean_hu") if in_hu else ((-1, 1), "mean")

    def shorter(own: Sequence[str]) -> list[Sequence[str]]:
        return [others for others in fallbacks if len(others) < len(own)]

    fits = {
        name: fit_class(split, transform, window, channel, [names[name], *shorter(names[name])], seed, data, unit)
        for channel, name in enumerate(classes)
    }

    content: dict[str, Any] = {"num_bins": NUM_BINS, "value_range": [-1, 1]}
    single = len(classes) == 1
    content |= fits[classes[0]][0] if single else {"classes": {name: found for name, (found, _) in fits.items()}}
    write_atomically(target, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))
    names = {name: list(found["presets"]) for name, (found, _) in fits.items()}
    for name, (_, report) in fits.items():
        title = "" if single else f"{name}, "
        print_report(f"{title}training", report["training"], names[name], unit.replace("_hu", " HU"))
        print_report(
            f"{title}validation (nearest preset)", report["validation"], names[name], unit.replace("_hu", " HU")
        )
    print(f"wrote {target}")
    reports = {name: report for name, (_, report) in fits.items()}
    return reports[classes[0]] if single else reports


def names_by_class(
    names: Sequence[str] | Mapping[str, Sequence[str]] | None, classes: Sequence[str], shipped: Path
) -> dict[str, list[str]]:
    """Each class's preset names; by default those of the shipped presets. InputError where they do not fit."""
    if names is None:
        if not shipped.is_file():
            raise InputError(f"there is no {shipped} to take the presets' names from: pass names.")
        content = json.loads(shipped.read_text())
        content = content.get("classes", {classes[0]: content})
        names = {name: list(part["presets"]) for name, part in content.items()}
    if not isinstance(names, Mapping):
        names = dict.fromkeys(classes, names)
    for name in classes:
        own = names.get(name)
        if isinstance(own, str) or not isinstance(own, Sequence) or not own or len(set(own)) < len(own):
            raise InputError(f"names of {name} must be different names, one for each cluster, got {own!r}.")
    return {name: list(names[name]) for name in classes}
