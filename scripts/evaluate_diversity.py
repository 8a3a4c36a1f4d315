# SPDX-License-Identifier: Apache-2.0
"""How different two lesions of one mask are, with texture control and without (section 4, figure 6).

python scripts/evaluate_diversity.py --output_dir diversity
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_components.control_pictures import save_crop_grid
from custom_components.errors import InputError, install_excepthook
from custom_components.files import write_atomically
from custom_components.lesion_crops import LesionCrop
from custom_components.metrics.diversity import pair_similarity, repeated_pairs
from lefusion_scripts.control_sites import open_sites, write_report, write_table

TEXTURES = ("random", "none")
RESULTS = ("diversity.json", "diversity.csv", "diversity.png")
SHOWN = 5  # sites in the picture


def similarities(first: Sequence[LesionCrop], second: Sequence[LesionCrop]) -> list[dict[str, float]]:
    """PSNR (dB) and SSIM within the mask between the two lesions of each site."""
    pairs = repeated_pairs([*first, *second])
    found = pair_similarity([*first, *second], pairs)
    return [{name: float(values[k]) for name, values in found.items()} for k in range(len(pairs))]


def build_report(rows: Sequence[Mapping[str, Any]], textures: Sequence[str]) -> dict[str, Any]:
    """Means over the sites, for each texture request, of all pairs and of those whose presets are the same.

    Args:
        rows: one a texture request and site, with psnr, ssim, texture_1 and texture_2.
        textures: the requests; all others are compared with the last one.
    """
    report: dict[str, Any] = {"sites": sum(row["request"] == textures[0] for row in rows), "requests": {}}
    values = {}
    for request in textures:
        own = [row for row in rows if row["request"] == request]
        values[request] = {name: np.array([row[name] for row in own]) for name in ("psnr", "ssim", "mean_difference")}
        same = np.array([row["texture_1"] == row["texture_2"] for row in own])
        line: dict[str, Any] = {"same_preset": int(same.sum())}
        for name, numbers in values[request].items():
            finite = numbers[np.isfinite(numbers)]
            line[name] = {"mean": float(finite.mean()), "sd": float(finite.std())} if finite.size else None
            alike = numbers[same & np.isfinite(numbers)]
            line[f"{name}_of_same_preset"] = float(alike.mean()) if alike.size else None
        report["requests"][request] = line
    for request in textures[:-1]:
        share = {name: float((values[request][name] < values[textures[-1]][name]).mean()) for name in ("psnr", "ssim")}
        report["requests"][request][f"sites_less_similar_than_{textures[-1]}"] = share
    return report


def print_report(report: Mapping[str, Any]) -> None:
    print(
        f"\n{report['sites']} sites, two lesions each; similarity of the two within the mask, lower is more diverse\n"
    )
    print(f"{'request':<16}{'PSNR, dB (sd)':>16}{'SSIM (sd)':>16}{'mean differs by, HU':>21}   pairs of one preset")
    for request, row in report["requests"].items():
        psnr, ssim, mean = ("equal" if row[n] is None else row[n] for n in ("psnr", "ssim", "mean_difference"))
        parts = [f"{v['mean']:.2f} ({v['sd']:.2f})" if isinstance(v, dict) else v for v in (psnr, ssim)]
        print(f"{request:<16}{parts[0]:>16}{parts[1]:>16}{mean['mean']:>21.0f}   {row['same_preset']}{_alike(row)}")


def _alike(row: Mapping[str, Any]) -> str:
    """The similarity of pairs of one preset, where there are some that differ."""
    values = (row["psnr_of_same_preset"], row["ssim_of_same_preset"])
    return "" if None in values else " ({:.2f} dB, SSIM {:.2f})".format(*values)


def evaluate_diversity(
    output_dir: str = "diversity",
    image: str | None = None,
    lungs: str | None = None,
    nodules: str | None = None,
    shapes: str | None = None,
    sites: int = 20,
    textures: Sequence[str] = TEXTURES,
    bundle: str = "lefusion_lidc",
    seed: int = 0,
    config_files: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Paint every site twice, from two seeds, for each texture request, and compare the two lesions.

    Args:
        output_dir: for diversity.json, diversity.csv (a row a site), diversity.png, sites.nii.gz and the painted scans.
        image: a chest CT; the bundle's sample by default.
        lungs: mask of its lungs; found by default.
        nodules: mask of its nodules, which the sites keep away from.
        shapes: data set, of which the lesion masks of validation patients are painted, or a folder of lesion masks;
            the sample's nodule masks by default.
        sites: how many.
        textures: texture requests; random draws a preset and varies it (LeFusion-H), none leaves it to the network.
            The last one is what the others are compared with.
        bundle: a bundle's name or folder.
        seed: of the sites and of the first lesions; the second ones have the next.
        config_files: overlays of the bundle's inference config, by name or path.
        overwrite: replace existing outputs.
        overrides: keys of the inference config, such as texture_weights.

    Returns:
        ``sites`` and ``requests``: texture request -> mean and sd of psnr (dB), ssim and mean_difference (HU,
        absolute), how many pairs have the same preset, and their means.

    Raises:
        InputError: for the first thing that is wrong, before anything is painted.
    """
    textures = [textures] if isinstance(textures, str) else list(textures)
    given = (image, lungs, nodules, shapes, sites, seed, overwrite)
    if not textures or len(set(textures)) < len(textures):
        raise InputError(f"textures must name one or more different requests, got {textures}.")
    painter = open_sites(output_dir, RESULTS, bundle, config_files, overrides, *given, textures=textures)
    columns, rows, sidecar = [painter.crops()], [], {}
    for request in textures:
        paintings = [painter.paint(f"{request}_{k}", request, seed + k - 1) for k in (1, 2)]
        crops = [painter.crops(painting.path) for painting in paintings]
        columns += crops
        sidecar = paintings[0].sidecar
        lesions = zip(*(painting.sidecar["lesions"] for painting in paintings), strict=True)
        for (one, other), similarity in zip(lesions, similarities(*crops), strict=True):
            row = {"request": request, "site": one["spec"]["lesion"], "size_mm": round(2 * one["spec"]["radius_mm"], 1)}
            row |= {"texture_1": one["spec"]["texture"], "texture_2": other["spec"]["texture"], **similarity}
            rows.append({**row, "mean_difference": abs(one["mean_painted"] - other["mean_painted"])})
    report = build_report(rows, textures)
    report |= {key: sidecar[key] for key in ("bundle", "source", "mask", "weights", "settings")}
    for key in ("texture", "seed"):
        report["settings"].pop(key, None)
    out = painter.output_dir
    write_table(out / "diversity.csv", rows)
    titles = ["healthy, mask", *(f"{request.replace('_', ' ')} {k}" for request in textures for k in (1, 2))]
    picture = _picture(columns, rows, textures)
    write_atomically(out / "diversity.png", lambda path: save_crop_grid(picture, titles, path))
    write_report(out / "diversity.json", report)
    print_report(report)
    print(f"\nwrote {out / 'diversity.json'}, diversity.csv and diversity.png")
    return report


def _picture(
    columns: Sequence[Sequence[LesionCrop]], rows: Sequence[Mapping[str, Any]], textures: Sequence[str]
) -> list[tuple[str, list[LesionCrop], list[str]]]:
    """Some sites by size; below each pair its similarity."""
    count = len(columns[0])
    order = np.argsort([int(crop.tight_mask.sum()) for crop in columns[0]])
    lines = []
    for site in dict.fromkeys(int(order[k]) for k in np.linspace(0, count - 1, SHOWN).round().astype(int)):
        captions = [""]
        for number in range(len(textures)):
            row = rows[number * count + site]
            names = (str(row[f"texture_{k}"]).replace("_", " ") for k in (1, 2))
            tails = (f", {row['psnr']:.1f} dB", f", SSIM {row['ssim']:.2f}")
            captions += [name + tail for name, tail in zip(names, tails, strict=True)]
        size = f"{rows[site]['size_mm']:.0f} mm"
        lines.append((size, [column[site] for column in columns], captions))
    return lines


if __name__ == "__main__":
    import fire

    install_excepthook()
    fire.Fire(evaluate_diversity, serialize=lambda report: None)
