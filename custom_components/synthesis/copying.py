"""Masks of real lesions, copied to other scans; with their intensities where nothing is to be painted (section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..baselines.copy_paste import paste_lesion
from ..conditioners import lesion_histogram
from ..errors import InputError
from ..grids import shifted
from ..labels import LesionLabels
from ..lesion_library import LesionLibrary, LibraryLesion, PlacedLesion, place
from ..lesion_transfer import copy_lesions
from ..masks import bounding_sphere
from ..seeds import derive_seed
from ..specs import CaseLesions, LesionSpec
from ..volumes import Scan, read_label, read_scan
from .cases import SyntheticCase
from .composition import BoxedMask, compose_lesions
from .drawing import SphereDrawer, border_distance_mm
from .options import SynthesisOptions
from .writing import SyntheticCaseSaver

__all__ = ["CopiedCaseSaver", "CopiedMasks", "WallCopies"]

TRIES = 100


class CopiedMasks:
    """Takes masks from a library of real lesions and lays them where real lesions lie.

    Args:
        options: of the synthesis.
        library: the lesions.
        labels: of the painting bundle.
        spheres: draws sites.
    """

    def __init__(
        self, options: SynthesisOptions, library: LesionLibrary, labels: LesionLabels, spheres: SphereDrawer
    ) -> None:
        self.options, self.library, self.labels, self.spheres = options, library, labels, spheres

    def prepare(self, case: SyntheticCase) -> None:
        """Chooses lesions and sites of a case and lays the masks there; InputError where that cannot be done."""
        rng = np.random.default_rng(derive_seed(self.options.seed, case.name, "sites"))
        count, quantiles_mm = self.spheres.count(rng), self.spheres.radii_for(case.image, case.name)
        lesions = [self._draw(rng, quantiles_mm) for _ in range(count)]
        spheres = self.spheres.place(case, [lesion.radius_mm for lesion in lesions], rng)
        placed, masks = [], []
        for number, (lesion, (centre, radius)) in enumerate(zip(lesions, spheres, strict=True), start=1):
            seed = derive_seed(self.options.seed, case.name, number, 1, "mask")
            copy = place(lesion, centre, case.image, case.organ.mask, np.random.default_rng(seed))
            placed.append(copy)
            masks.append((copy.box, np.stack([copy.label == value for value in self.labels.classes.values()])))
            distance = border_distance_mm(case.organ.mask, case.image.affine, centre)
            site = {"centre_mm": list(centre), "radius_mm": radius, "seed": seed, "distance_to_border_mm": distance}
            case.sites.append({**site, "library_lesion": lesion.name})
        case.lesions, numbers = compose_lesions(case.image, masks, self.labels, case.organ.anatomy)
        case.number_sites(numbers)
        if self.options.copies_values:
            case.values = dict(zip(numbers, placed, strict=True))

    def _draw(self, rng: np.random.Generator, quantiles_mm: np.ndarray) -> LibraryLesion:
        """A lesion that fits into the painting crop; of a radius within the limits where any were asked for."""
        for _ in range(TRIES):
            wanted = None if self.options.radius_mm is None else float(rng.uniform(quantiles_mm[0], quantiles_mm[-1]))
            lesion = self.library.draw(rng, wanted)
            if lesion.values is None and self.options.copies_values:
                raise InputError(f"library {self.library.root} has no images: there are no intensities to copy.")
            if lesion.radius_mm <= quantiles_mm[-1]:
                return lesion
        raise InputError(f"library {self.library.root} has no lesion of at most {quantiles_mm[-1]:.3g} mm radius.")

    def draw(self, cases: Sequence[SyntheticCase]) -> dict[str, list[BoxedMask]]:
        """Nothing is left to draw."""
        return {}

    def finish(self, case: SyntheticCase, masks: Any) -> None:
        """Nothing is left to put together."""


class WallCopies(CopiedMasks):
    """Lays lesions of other hearts into the wall, see :func:`~custom_components.lesion_transfer.copy_lesions`.

    Raises:
        InputError: where ``labels`` do not tell cavity and myocardium.
    """

    def __init__(self, options: SynthesisOptions, library: LesionLibrary, labels: LesionLabels) -> None:
        self.options, self.library, self.labels = options, library, labels
        for name in ("cavity", "myocardium"):
            if name not in labels.anatomy:
                raise InputError(f"bundle {options.bundle} knows no {name}: masks are copied from wall to wall.")

    def prepare(self, case: SyntheticCase) -> None:
        seed = derive_seed(self.options.seed, case.name, "sites")
        rng = np.random.default_rng(seed)
        if case.organ.anatomy is None:
            raise InputError(f"image {case.image.path} has no label map of its heart to copy lesions into.")
        entry = self.library.cases[self.library.index[rng.integers(len(self.library.index))][0]]
        source = read_scan(entry["label"])
        target = copy_lesions(
            read_label(entry["label"], source, self.labels, "label"),
            source.affine,
            case.organ.anatomy,
            case.image.affine,
            cavity=self.labels.anatomy["cavity"],
            myocardium=self.labels.anatomy["myocardium"],
            classes=list(self.labels.classes.values()),
            names=(f"label {entry['label']}", f"the organ mask of {case.scan.name}"),
        )
        everywhere = tuple(slice(0, size) for size in target.shape)
        masks = np.stack([target == value for value in self.labels.classes.values()])
        case.lesions, numbers = compose_lesions(case.image, [(everywhere, masks)], self.labels, case.organ.anatomy)
        box = case.lesions.boxes[0]
        centre, radius = bounding_sphere(case.lesions.instances[box] > 0, shifted(case.image.affine, box))
        case.sites = [
            {
                "centre_mm": [float(v) for v in centre],
                "radius_mm": radius,
                "seed": seed,
                "distance_to_border_mm": border_distance_mm(case.organ.mask, case.image.affine, centre),
                "library_lesion": entry["case"],
            }
        ]
        case.number_sites(numbers)


class CopiedCaseSaver(SyntheticCaseSaver):
    """Pastes copied intensities in place of painted ones; no network takes part."""

    def __init__(self, lesions: Sequence[Mapping[str, Any]], *others: Any, **named: Any) -> None:
        copied = [{**item, "specs": [replace(spec, texture="copied") for spec in item["specs"]]} for item in lesions]
        super().__init__(copied, *others, **named)

    def paste(self, numbers: Sequence[int], found: CaseLesions) -> tuple[np.ndarray, list[dict[str, Any]]]:
        case, scan = self.by_name[self.case_names[numbers[0]]], found.scan
        stored, entries = scan.stored.copy(), []
        for number in numbers:
            specs = self.items[number]["specs"]
            copy = case.values[specs[0].lesion]
            own = found.instances[copy.box] == specs[0].lesion
            lesion = copy._replace(label=np.where(own, copy.label, 0))
            stored[copy.box][own] = paste_lesion(lesion, scan)[own]
            entries += [self._entry(spec, lesion, scan, stored) for spec in specs]
        self.check_outside(case.name, found, stored)
        return stored, entries

    def _entry(self, spec: LesionSpec, lesion: PlacedLesion, scan: Scan, stored: np.ndarray) -> dict[str, Any]:
        """One class of a lesion in the sidecar."""
        inside = lesion.label == self.labels.classes[spec.lesion_class]
        values = scan.slope * stored[lesion.box][inside].astype(np.float64) + scan.intercept
        low, high = spec.window
        scaled = torch.from_numpy(((values - low) * (2 / (high - low)) - 1).clip(-1, 1))
        histogram = lesion_histogram(scaled, torch.ones_like(scaled)).numpy()
        return {
            "spec": spec.as_dict(),
            "achieved_histogram": [round(float(v), 6) for v in histogram],
            "histogram_distance": None,
            "mean_before": round(float(scan.values(lesion.box)[inside].mean()), 3),
            "mean_painted": round(float(values.mean()), 3),
            "std_painted": round(float(values.std()), 3),
            "crop_affine": shifted(scan.affine, lesion.box).tolist(),
            "crop_size": list(lesion.label.shape),
        }
