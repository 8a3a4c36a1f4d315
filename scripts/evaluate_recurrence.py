# SPDX-License-Identifier: Apache-2.0
"""What the recurrent mechanism does to lesions and their borders (appendix E and F, figure A4).

python scripts/evaluate_recurrence.py --output_dir recurrence
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_components.control_pictures import save_crop_grid
from custom_components.errors import InputError, install_excepthook
from custom_components.files import write_atomically
from custom_components.lesion_crops import LesionCrop, read_crops
from custom_components.metrics import border_steps
from lefusion_scripts.benchmark import measure, read_config
from lefusion_scripts.control_sites import PaintedSites, open_sites, write_report, write_table

RECURRENCES = {"none": (1, 1), "small": (1, 5), "medium": (2, 5), "large": (5, 5)}
RESULTS = ("recurrence.json", "recurrence.csv", "recurrence.png")
SHOWN = 2  # sites in the picture
MEASURES = ("histogram_distance", "mean_hu", "across", "within", "around", "seam")


def check_recurrences(recurrences: Any, num_steps: Any) -> dict[str, tuple[int, int]]:
    """Name -> (jump_length, jump_n_sample), of a walk of so many steps.

    Raises:
        InputError: where it is none, a length leaves no room for a jump, or a name cannot be that of a folder.
    """
    if not isinstance(recurrences, Mapping) or not recurrences:
        raise InputError(f"recurrences must be {{name: [jump_length, jump_n_sample], ...}}, got {recurrences!r}.")
    if type(num_steps) is not int:
        raise InputError(f"num_inference_steps must be a whole number, got {num_steps!r}.")
    found = {}
    for name, pair in recurrences.items():
        if not re.fullmatch(r"\w+", str(name)):
            raise InputError(f"recurrences: a name must consist of letters, digits and _, got {name!r}.")
        whole = isinstance(pair, Sequence) and len(pair) == 2 and all(type(v) is int and v >= 1 for v in pair)
        if not whole:
            raise InputError(f"recurrences: {name} must be two whole numbers of at least 1, got {pair!r}.")
        if pair[1] > 1 and pair[0] >= num_steps:
            raise InputError(f"recurrences: {name} jumps back {pair[0]} steps, the walk has only {num_steps}.")
        found[str(name)] = (pair[0], pair[1])
    return found


def borders(crops: Sequence[LesionCrop]) -> list[dict[str, float]]:
    """:func:`~custom_components.metrics.border_steps` of each, in the scan's units a mm, at the crops' voxel size."""
    return [border_steps(crop.tight_values, crop.tight_mask, crop.spacing_mm) for crop in crops]


def averages(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float | None]:
    """Means over the rows that have a value."""
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
    return {name: float(np.nanmean(v)) if np.isfinite(v).any() else None for name, v in values.items()}


def costs(painter: PaintedSites, settings: Mapping[str, int]) -> dict[str, float]:
    """Forwards and seconds that a lesion takes; files and random weights make no part of it."""
    overrides = {**painter.overrides, **settings}
    found = measure(str(painter.root), overrides, painter.spatial_size, 1, None, painter.overlays)
    return {"forwards": found["forwards_per_lesion"], "seconds": found["seconds_per_lesion"]}


def print_report(report: Mapping[str, Any]) -> None:
    print(f"\n{report['sites']} sites; steps across the border of a lesion, within and around it in HU a mm\n")
    columns = ("distance", "mean HU", "across", "within", "around", "seam")
    print(f"{'recurrence':<12}{'texture':<14}" + "".join(f"{c:>10}" for c in columns) + "   forwards  seconds a lesion")
    for row in report["rows"]:
        cost = report["costs"][row["recurrence"]]
        print(_line(row["recurrence"], row["texture"], row) + f"{cost['forwards']:11d}{cost['seconds']:10.2f}")
    for name in ("healthy", "real"):
        if report[name] is not None:
            print(_line(name, "", report[name]))
    print("distance: earth mover's from the achieved to the requested histogram; seam: across / mean(within, around).")


def _line(first: str, second: str, row: Mapping[str, float | None]) -> str:
    formats = (".3f", ".0f", ".1f", ".1f", ".1f", ".2f")
    values = (row.get(name) for name in MEASURES)
    parts = ("-" if v is None else format(v, f) for v, f in zip(values, formats, strict=True))
    return f"{first:<12}{second:<14}" + "".join(f"{part:>10}" for part in parts)


def evaluate_recurrence(
    output_dir: str = "recurrence",
    image: str | None = None,
    lungs: str | None = None,
    nodules: str | None = None,
    shapes: str | None = None,
    sites: int = 4,
    recurrences: Mapping[str, Sequence[int]] = RECURRENCES,
    bundle: str = "lefusion_lidc",
    seed: int = 0,
    config_files: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint the same lung sites from the same seeds with several recurrent lengths, in every texture preset.

    The lengths are those of appendix F in units of the steps used. By default a stretch is sampled 5 times, as in the
    paper: none, 1 step (small), 2 (medium) and 5 (large) of the 10 steps of a walk.

    Args:
        output_dir: for recurrence.json, recurrence.csv (a row a site), recurrence.png, sites.nii.gz and the painted
            scans.
        image: a chest CT; the bundle's sample by default.
        lungs: mask of its lungs; found by default.
        nodules: mask of its nodules, which the sites keep away from.
        shapes: data set, of which the lesion masks of validation patients are painted, and the lesions' borders are
            compared with; or a folder of lesion masks; the sample's nodule masks by default.
        sites: how many.
        recurrences: name -> [jump_length, jump_n_sample].
        bundle: a bundle's name or folder.
        seed: of the sites and of the inference.
        config_files: overlays of the bundle's inference config, by name or path.
        overwrite: replace existing outputs.
        overrides: keys of the inference config, such as num_inference_steps, sampler or texture_guidance.

    Returns:
        ``rows`` (recurrence, texture, and means over the sites of the distance to the request, the mean and the border
        steps), ``costs`` (recurrence -> forwards and seconds a lesion), and the border steps of the ``healthy`` scan at
        the sites and of the ``real`` lesions of ``shapes``, None where there are none.

    Raises:
        InputError: for the first thing that is wrong, before anything is painted.
    """
    given = (image, lungs, nodules, shapes, sites, seed, overwrite)
    keys = ("jump_length", "jump_n_sample")
    steps = overrides.get("num_inference_steps") or read_config(bundle, {}, config_files).get("num_inference_steps")
    recurrences = check_recurrences(recurrences, steps)
    painter = open_sites(output_dir, RESULTS, bundle, config_files, overrides, *given, set_here=keys)
    healthy = painter.crops()
    crops: dict[tuple[str, str], list[LesionCrop]] = {}
    rows, cost, sidecar = [], {}, {}
    for name, pair in recurrences.items():
        settings = dict(zip(keys, pair, strict=True))
        cost[name] = costs(painter, settings)
        for texture in painter.presets:
            painting = painter.paint(f"{texture}_{name}", texture, seed, **settings)
            crops[name, texture], sidecar = painter.crops(painting.path), painting.sidecar
            entries = painting.sidecar["lesions"]
            for entry, steps_found in zip(entries, borders(crops[name, texture]), strict=True):
                row = {"recurrence": name, "texture": texture, "site": entry["spec"]["lesion"]}
                row |= {"size_mm": round(2 * entry["spec"]["radius_mm"], 1)}
                row |= {"histogram_distance": entry["histogram_distance"], "mean_hu": entry["mean_painted"]}
                rows.append({**row, **steps_found, **cost[name]})
    report: dict[str, Any] = {"sites": len(healthy), "recurrences": recurrences, "costs": cost}
    report["rows"] = [
        {"recurrence": name, "texture": texture}
        | averages([row for row in rows if (row["recurrence"], row["texture"]) == (name, texture)], MEASURES)
        for name, texture in crops
    ]
    report["healthy"] = averages(borders(healthy), MEASURES[2:])
    real = [case for case in painter.shape_cases if "image" in case]
    found = read_crops(real, "shapes", (1,), painter.spacing_mm, progress=False) if real else []
    report["real"] = averages(borders(found), MEASURES[2:]) | {"lesions": len(found)} if found else None
    report |= {key: sidecar[key] for key in ("bundle", "source", "mask", "weights", "settings")}
    for key in ("texture", *keys):
        report["settings"].pop(key, None)
    out = painter.output_dir
    write_table(out / "recurrence.csv", rows)
    picture = _picture(healthy, crops, list(recurrences), painter.presets)
    titles = ["healthy, mask", *(f"{name} ({length} x {count})" for name, (length, count) in recurrences.items())]
    write_atomically(out / "recurrence.png", lambda path: save_crop_grid(picture, titles, path))
    write_report(out / "recurrence.json", report)
    print_report(report)
    print(f"\nwrote {out / 'recurrence.json'}, recurrence.csv and recurrence.png")
    return report


def _picture(
    healthy: Sequence[LesionCrop],
    crops: Mapping[tuple[str, str], Sequence[LesionCrop]],
    names: Sequence[str],
    textures: Sequence[str],
) -> list[tuple[str, list[LesionCrop], list[str]]]:
    """Rows: a middle and a large site, in every texture; columns: healthy, then every recurrence."""
    order = np.argsort([int(crop.tight_mask.sum()) for crop in healthy])
    shown = dict.fromkeys(int(order[k]) for k in np.linspace(len(order) // 2, len(order) - 1, SHOWN).astype(int))
    rows = []
    for site in shown:
        for texture in textures:
            line = [healthy[site], *(crops[name, texture][site] for name in names)]
            rows.append((texture.replace("_", " "), line, [""] * len(line)))
    return rows


if __name__ == "__main__":
    import fire

    install_excepthook()
    fire.Fire(evaluate_recurrence, serialize=lambda report: None)
