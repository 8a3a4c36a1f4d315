# SPDX-License-Identifier: Apache-2.0
"""Nodule-free lung sites, painted again and again by a bundle's own inference: what the control evaluations share."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from scipy import ndimage

from custom_components.bundle_configs import as_overrides
from custom_components.datasets import SCAN_SUFFIXES, case_name, find_cases, list_cases, split_by_patient
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.lesion_crops import LesionCrop, read_crops
from custom_components.organs import find_lungs
from custom_components.volumes import Scan, check_scan, read_mask, read_scan, write_scan
from custom_components.windows import FixedWindow
from lefusion_scripts import run as workflow
from lefusion_scripts.evaluate_texture import VAL_FRACTION, WALL_MM, place_sites, read_shapes

__all__ = ["PaintedSites", "Painting", "open_sites", "write_report", "write_table"]

SITES = "sites.nii.gz"
OWN_KEYS = ("image", "mask", "dataset_dir", "texture", "seed", "replay", "resume", "panel", "output_dir")


@dataclass(frozen=True)
class Painting:
    """The sites painted once.

    Attributes:
        path: the painted scan.
        sidecar: its record; ``lesions`` holds one entry a site.
    """

    path: Path
    sidecar: dict[str, Any]


@dataclass(frozen=True)
class PaintedSites:
    """Sites that can be painted.

    Attributes:
        root: the bundle's folder.
        overlays, overrides: of its inference config.
        output_dir: for the sites and the painted scans.
        image: the scan with no lesion at the sites.
        presets: names of the bundle's texture presets, from dark to bright.
        spatial_size, spacing_mm, window: of the bundle's crops.
        shape_cases: where the lesion masks come from; with ``image`` where they have scans.
        overwrite: replace existing files.
    """

    root: Path
    overlays: str | Sequence[str]
    overrides: Mapping[str, Any]
    output_dir: Path
    image: Path
    presets: tuple[str, ...]
    spatial_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    window: tuple[float, float]
    shape_cases: tuple[dict[str, Any], ...]
    overwrite: bool

    @property
    def mask(self) -> Path:
        """The file of the sites' lesion masks."""
        return self.output_dir / SITES

    def paint(self, name: str, texture: str, seed: int, **settings: Any) -> Painting:
        """All sites in one texture, in the folder ``name`` of the outputs."""
        print(f"painting {name.replace('_', ' ')}", flush=True)
        own = {"image": str(self.image), "mask": str(self.mask), "output_dir": str(self.output_dir / name)}
        own |= {"texture": texture, "seed": seed, "panel": False, "overwrite": self.overwrite, "logging_file": False}
        workflow.run("inference", str(self.root), self.overlays, **{**self.overrides, **settings, **own})
        stem = f"{self.output_dir / name / case_name(self.image)}_lefusion"
        return Painting(Path(f"{stem}.nii.gz"), json.loads(Path(f"{stem}.json").read_text()))

    def crops(self, image: str | Path | None = None, size: int = 40) -> list[LesionCrop]:
        """The sites of a painted scan, or of the scan itself, in the order of the sidecars' lesions."""
        path = str(self.image if image is None else image)
        case = {"image": path, "label": str(self.mask), "case": case_name(path), "patient": case_name(self.image)}
        window = FixedWindow(*self.window)
        return read_crops([case], "sites", (1,), self.spacing_mm, size, window, progress=False)


def open_sites(
    output_dir: str,
    results: Sequence[str],
    bundle: str,
    config_files: str | Sequence[str],
    overrides: Mapping[str, Any],
    image: str | None,
    lungs: str | None,
    nodules: str | None,
    shapes: str | None,
    sites: int,
    seed: int,
    overwrite: bool,
    set_here: Sequence[str] = (),
    textures: Sequence[str] = (),
) -> PaintedSites:
    """Checks what a control evaluation was given, places the sites and writes their masks.

    Args:
        output_dir: for the outputs.
        results: files and folders that the evaluation writes there.
        bundle, config_files, overrides: as ``lefusion run``.
        image: a chest CT; the bundle's sample by default.
        lungs: mask of its lungs; found by default.
        nodules: mask of its nodules, which the sites keep away from.
        shapes: a data set, of which the lesions of validation patients are taken, or a folder of masks; the sample's
            nodule masks by default. Those too large for the bundle's crop are left out.
        sites: how many.
        seed: of the sites.
        overwrite: replace existing files.
        set_here: further keys of the inference config that the evaluation sets itself.
        textures: requests that the bundle must know.

    Raises:
        InputError: for the first thing that is wrong, before anything is written.
    """
    out, root, overrides = Path(str(output_dir)), workflow.bundle_root(bundle), as_overrides(overrides)
    files = workflow.config_files(root, "inference", config_files)
    workflow.check_overrides(files, overrides)
    for key in (*OWN_KEYS, *set_here):
        if key in overrides:
            raise InputError(f"{key} is set by the evaluation itself and cannot be overridden.")
    if isinstance(sites, bool) or not isinstance(sites, int) or sites < 1:
        raise InputError(f"sites must be a whole number of at least 1, got {sites!r}.")
    overwrite = as_flag(overwrite, "overwrite")
    check_writable(out)
    for path in (out / name for name in (SITES, *results)):
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already: pass --overwrite true or another --output_dir.")
    parser = ConfigParser()
    parser.read_config(files)
    for key, value in overrides.items():
        if key.replace("#", "::") in parser:
            parser[key] = value
    if parser.get("hu_window") is None or parser.get("spacing_mm") is None:
        raise InputError(f"bundle {bundle} does not paint lung nodules into CT; these sites are in the lungs.")
    conditioner = parser.get_parsed_content("conditioner")
    for request in textures:
        conditioner.check_request(request)
    opened = PaintedSites(
        root=root,
        overlays=config_files,
        overrides=overrides,
        output_dir=out,
        image=Path(str(image)) if image is not None else _sample(root),
        presets=tuple(conditioner.presets),
        spatial_size=tuple(parser.get_parsed_content("spatial_size")),
        spacing_mm=tuple(parser.get_parsed_content("spacing_mm")),
        window=tuple(parser.get_parsed_content("hu_window")),
        shape_cases=tuple(_shape_cases(root, shapes)),
        overwrite=overwrite,
    )
    scan = read_scan(opened.image)
    check_scan(scan)
    fitting = _fitting_shapes(scan, opened)
    nodule_mask = np.zeros(scan.stored.shape, dtype=bool) if nodules is None else read_mask(nodules, scan)
    print(f"placing {sites} lesion masks in {scan.path}", flush=True)
    lung = find_lungs(scan) if lungs is None else read_mask(lungs, scan)
    deep = ndimage.distance_transform_edt(lung, sampling=scan.spacing_mm) >= WALL_MM
    placed = place_sites(scan, nodule_mask, fitting, sites, seed, deep)
    write_scan(scan, placed, opened.mask, "lesion masks at nodule-free lung sites", scaled=False)
    return opened


def _sample(root: Path) -> Path:
    """The scan of a bundle's sample."""
    cases = find_cases(root / "sample")
    if not cases:
        raise InputError(f"bundle {root} has no sample: name a chest CT with --image.")
    return Path(cases[0]["image"])


def _shape_cases(root: Path, shapes: str | None) -> list[dict[str, Any]]:
    folder = root / "sample" / "nodule_masks" if shapes is None else Path(str(shapes))
    masks = sorted(p for p in folder.iterdir() if p.name.endswith(SCAN_SUFFIXES)) if folder.is_dir() else []
    if masks:
        return [{"label": str(path)} for path in masks]
    if shapes is None:
        raise InputError(f"bundle {root} has no nodule masks in its sample: name lesion masks with --shapes.")
    return split_by_patient(list_cases(folder), VAL_FRACTION, "validation")


def _fitting_shapes(scan: Scan, sites: PaintedSites) -> list[np.ndarray]:
    room_mm = np.array(sites.spatial_size) * sites.spacing_mm
    # Compared by the array axes, in any order of them: what fits the crop's smallest side fits however it is turned.
    shapes = read_shapes(sites.shape_cases, scan)
    fitting = [s for s in shapes if (np.array(s.shape) * scan.spacing_mm <= room_mm.min()).all()]
    if not fitting:
        raise InputError(f"none of the lesion masks fits into a crop of {sites.spatial_size} voxels.")
    return fitting


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes JSON."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes CSV; the first row names the columns."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)
