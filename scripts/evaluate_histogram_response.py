# SPDX-License-Identifier: Apache-2.0
"""What the texture control makes of a lesion's histogram (appendix C, figure A3).

python scripts/evaluate_histogram_response.py --output_dir histogram_response
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from custom_components.conditioners import histogram_mean
from custom_components.control_pictures import save_response_figure
from custom_components.errors import InputError, install_excepthook
from custom_components.files import write_atomically
from custom_components.metrics import fit_histogram_response, histogram_distance
from custom_components.metrics.histogram_response import FLOOR
from custom_components.specs import LesionSpec
from custom_components.transforms import LesionCropd, LesionHistogramd, ScaleToWindowd
from lefusion_scripts.control_sites import PaintedSites, Painting, open_sites, write_report, write_table

NO_CONTROL = "none"
RESULTS = ("fit.json", "histograms.csv", "histogram_response.png")


def histograms_before(sites: PaintedSites, painting: Painting) -> np.ndarray:
    """(sites, 16): each lesion's region in the crop in which it was painted, before it was."""
    size = painting.sidecar["lesions"][0]["crop_size"]
    transform = Compose([LesionCropd("image", size, sites.spacing_mm), ScaleToWindowd("image"), LesionHistogramd()])
    files = {"image": str(sites.image), "label": str(sites.mask)}
    specs = [LesionSpec(**entry["spec"]) for entry in painting.sidecar["lesions"]]
    return torch.cat([transform({**files, "specs": [spec]})["histogram"] for spec in specs]).double().numpy()


def build_report(
    before: np.ndarray,
    requested: Mapping[str, np.ndarray | None],
    achieved: Mapping[str, np.ndarray],
    window: tuple[float, float],
    floor: float = FLOOR,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The fits of Eq. 7, and how near what they predict comes to what was painted.

    One fit goes over all controls; what was painted without control has a fit of its own, without s.

    Args:
        before: (sites, num_bins).
        requested, achieved: control -> (sites, num_bins); None where nothing was requested.
        window: values at the ends of the histograms.
        floor: see :func:`~custom_components.metrics.fit_histogram_response`.

    Returns:
        The report, and control -> predicted histograms (sites, num_bins).
    """
    controls = [name for name, wanted in requested.items() if wanted is not None]
    joint = fit_histogram_response(
        np.stack([before] * len(controls)),
        np.stack([requested[name] for name in controls]),
        np.stack([achieved[name] for name in controls]),
        floor,
    )
    fits = {"control": joint} | {
        name: fit_histogram_response(before, None, achieved[name], floor)
        for name, wanted in requested.items()
        if wanted is None
    }
    predicted = {name: fits.get(name, joint).predict(before, wanted) for name, wanted in requested.items()}
    rows = {}
    for name, wanted in requested.items():
        others = {"before": before, "requested": wanted, "predicted": predicted[name]}
        row: dict[str, float] = {}
        for title, histograms in {**others, "achieved": achieved[name]}.items():
            if histograms is not None:
                row[f"mean_{title}"] = float(np.mean([histogram_mean(h, window) for h in histograms]))
        for title, histograms in others.items():
            if histograms is not None:
                pairs = zip(achieved[name], histograms, strict=True)
                row[f"distance_to_{title}"] = float(np.mean([histogram_distance(*pair) for pair in pairs]))
        rows[name] = row
    names = {"offset": "p_plus_q"}
    report = {
        "sites": len(before),
        "fits": {
            name: {names.get(key, key): value for key, value in asdict(fit).items()} for name, fit in fits.items()
        },
        "controls": rows,
    }
    return report, predicted


def print_report(report: Mapping[str, Any]) -> None:
    print(f"\n{report['sites']} sites; log O = r log l + s log h + (p + q): l before, h requested, O achieved\n")
    for name, fit in report["fits"].items():
        parts = f"r {fit['r']:.3f}  s {fit['s']:.3f}  p + q {fit['p_plus_q']:.3f}  R^2 {fit['r_squared']:.3f}"
        print(f"{name:<14}{parts}  ({fit['observations']} bins)")
    print(f"\n{'control':<14}{'mean: before':>14}{'requested':>11}{'predicted':>11}{'achieved':>10}", end="")
    print("   distance of the achieved to: before, requested, predicted")
    for name, row in report["controls"].items():
        means = (row.get(f"mean_{title}") for title in ("before", "requested", "predicted", "achieved"))
        line = "".join(
            f"{'-' if v is None else format(v, '.0f'):>{w}}" for v, w in zip(means, (14, 11, 11, 10), strict=True)
        )
        distances = (row.get(f"distance_to_{title}") for title in ("before", "requested", "predicted"))
        print(f"{name:<14}{line}   " + "".join(f"{'-' if v is None else format(v, '.3f'):>10}" for v in distances))


def evaluate_histogram_response(
    output_dir: str = "histogram_response",
    image: str | None = None,
    lungs: str | None = None,
    nodules: str | None = None,
    shapes: str | None = None,
    sites: int = 20,
    bundle: str = "lefusion_lidc",
    seed: int = 0,
    floor: float = FLOOR,
    config_files: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint nodule-free lung sites with every texture preset and without, and fit Eq. 7 of the paper to the histograms.

    Args:
        output_dir: for fit.json, histograms.csv, histogram_response.png, sites.nii.gz and the painted scans.
        image: a chest CT; the bundle's sample by default.
        lungs: mask of its lungs; found by default.
        nodules: mask of its nodules, which the sites keep away from.
        shapes: data set, of which the lesion masks of validation patients are painted, or a folder of lesion masks;
            the sample's nodule masks by default.
        sites: how many.
        bundle: a bundle's name or folder.
        seed: of the sites and of the inference.
        floor: shares below it count as this much, since an empty bin has no logarithm.
        config_files: overlays of the bundle's inference config, by name or path.
        overwrite: replace existing outputs.
        overrides: keys of the inference config, such as texture_guidance.

    Returns:
        ``fits`` (``control`` and ``none``: r, s, p_plus_q, r_squared, observations, floor) and ``controls`` (means of
        the histograms in HU, and earth mover's distances of the achieved ones in units of [-1, 1]).

    Raises:
        InputError: for the first thing that is wrong, before anything is painted.
    """
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 < floor < 1:
        raise InputError(f"floor must lie between 0 and 1, got {floor!r}.")
    given = (image, lungs, nodules, shapes, sites, seed, overwrite)
    painter = open_sites(output_dir, RESULTS, bundle, config_files, overrides, *given)
    paintings = {texture: painter.paint(texture, texture, seed) for texture in (*painter.presets, NO_CONTROL)}
    entries = {name: painting.sidecar["lesions"] for name, painting in paintings.items()}
    before = histograms_before(painter, paintings[NO_CONTROL])
    requested = {
        name: None if name == NO_CONTROL else np.array([entry["spec"]["histogram"] for entry in part])
        for name, part in entries.items()
    }
    achieved = {name: np.array([entry["achieved_histogram"] for entry in part]) for name, part in entries.items()}
    report, predicted = build_report(before, requested, achieved, painter.window, floor)
    sidecar = paintings[NO_CONTROL].sidecar
    report |= {key: sidecar[key] for key in ("bundle", "source", "mask", "weights", "settings")}
    out = painter.output_dir
    write_table(out / "histograms.csv", _rows(before, requested, predicted, achieved))
    order = np.argsort([entry["spec"]["volume_mm3"] for entry in entries[NO_CONTROL]])
    picked = dict.fromkeys(int(order[round(share * (len(order) - 1))]) for share in (0.15, 0.5, 0.85))
    sizes = [2 * entry["spec"]["radius_mm"] for entry in entries[NO_CONTROL]]
    samples = {f"site {number + 1}, {sizes[number]:.0f} mm": number for number in picked}
    figure = (before, requested, predicted, achieved, samples, painter.window)
    write_atomically(out / "histogram_response.png", lambda path: save_response_figure(*figure, path))
    write_report(out / "fit.json", report)
    print_report(report)
    print(f"\nwrote {out / 'fit.json'}, histograms.csv and histogram_response.png")
    return report


def _rows(
    before: np.ndarray,
    requested: Mapping[str, np.ndarray | None],
    predicted: Mapping[str, np.ndarray],
    achieved: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """One row a site, control and kind of histogram."""
    rows = []
    for control, wanted in requested.items():
        kinds = {"before": before, "requested": wanted, "predicted": predicted[control], "achieved": achieved[control]}
        for site in range(len(before)):
            for kind, histograms in kinds.items():
                if histograms is not None:
                    shares = {f"bin_{k}": round(float(share), 6) for k, share in enumerate(histograms[site], start=1)}
                    rows.append({"site": site + 1, "control": control, "histogram": kind, **shares})
    return rows


if __name__ == "__main__":
    import fire

    install_excepthook()
    fire.Fire(evaluate_histogram_response, serialize=lambda report: None)
