"""Masks drawn by the mask bundle, for control spheres placed as real lesions lie."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..grids import crop_axes
from ..handlers import MaskSaver
from ..labels import LesionLabels
from ..mask_specs import MaskSpec
from ..mask_targets import LoadedTarget
from ..seeds import derive_seed
from ..sites import draw_sites, read_site_gaps
from ..spheres import Sphere, check_spheres, random_spheres, read_radii
from ..volumes import Scan
from .cases import SyntheticCase
from .composition import BoxedMask, compose_lesions
from .engines import BundleEngine
from .options import SynthesisOptions

__all__ = ["BoxedMaskSaver", "MaskDrawer", "SphereDrawer", "border_distance_mm"]


class BoxedMaskSaver(MaskSaver):
    """Keeps the masks of each case in memory, each in its box of the scan, in place of writing files.

    Args:
        drawn: takes the masks: case -> one for each sphere.
        others: see :class:`~custom_components.handlers.MaskSaver`.
    """

    def __init__(self, masks: Sequence[dict[str, Any]], drawn: dict[str, list[BoxedMask]], **others: Any) -> None:
        super().__init__(masks, **others)
        self.drawn = drawn

    def finish(self, numbers: Sequence[int]) -> None:
        target = self.items[numbers[0]]["target"]
        self.drawn[target.case] = [self.onto_scan(number, target.scan, target.organ) for number in numbers]


class SphereDrawer:
    """Draws the control spheres of a case: how many, how large, where.

    Args:
        options: of the synthesis.
        engine: the mask bundle, whose config tells how real lesions lie and how large they are.
        crop: ``spatial_size`` and ``spacing_mm`` of the painting crop, which a lesion must fit into; None where the
            organ limits it anyway.
        site_gaps: JSON with the distances of real lesions from their organ's border; None: as the mask bundle's config
            places spheres.
        aerated: whether sites have to lie in aerated lung.

    Raises:
        InputError: for a radius that no crop holds, or files that cannot be read.
    """

    def __init__(
        self,
        options: SynthesisOptions,
        engine: BundleEngine,
        crop: tuple[Sequence[int], Sequence[float] | None] | None,
        site_gaps: str | Path | None = None,
        aerated: bool = False,
    ) -> None:
        self.options, self.crop = options, crop
        self.max_radius_mm = float(engine.value("max_radius_mm"))
        self.placement = engine.value("placement")
        self.quantiles = read_radii(engine.value("radii"))
        self.gaps_mm, self.aerated = None if site_gaps is None else read_site_gaps(site_gaps), aerated
        limits = {options.mask_bundle: self.max_radius_mm}
        if crop is not None and crop[1] is not None:
            limits[options.bundle] = float(np.multiply(*crop).min()) / 2
        bundle, limit = min(limits.items(), key=lambda entry: entry[1])
        if options.radius_mm is not None and options.radius_mm[1] > limit:
            raise InputError(
                f"radius must be at most {limit:g} mm (what the crop of bundle {bundle} holds), "
                f"got {options.radius_mm[1]:g}."
            )

    def __call__(self, case: SyntheticCase) -> list[Sphere]:
        """Control spheres for a case whose scan is in memory.

        Raises:
            InputError: where there is no room, or the radius asked for does not fit into the painting crop.
        """
        rng = np.random.default_rng(derive_seed(self.options.seed, case.name, "sites"))
        count, quantiles = self.count(rng), self.radii_for(case.image, case.name)
        if self.gaps_mm is None:
            organ = case.organ.mask
            spheres = random_spheres(count, case.image, organ, quantiles, self.placement, rng, case.name)
        else:
            radii = np.interp(rng.uniform(size=count), np.linspace(0, 1, len(quantiles)), quantiles)
            spheres = self.place(case, [float(radius) for radius in radii], rng)
        check_spheres(spheres, case.image, case.organ.mask, self.max_radius_mm, case.name)
        return spheres

    def count(self, rng: np.random.Generator) -> int:
        """How many lesions a case gets."""
        least, most = self.options.lesions
        return int(rng.integers(least, most + 1))

    def place(self, case: SyntheticCase, radii_mm: Sequence[float], rng: np.random.Generator) -> list[Sphere]:
        """Spheres of given radii, where real lesions lie.

        Raises:
            InputError: where there is no room.
        """
        if self.gaps_mm is None:  # as deep as the sphere reaches, or anywhere
            places = []
            for radius in radii_mm:
                one = np.array([radius, radius])
                places += random_spheres(1, case.image, case.organ.mask, one, self.placement, rng, case.name)
            return places
        scan = case.image if self.aerated else None
        organ, affine = case.organ.mask, case.image.affine
        return draw_sites(len(radii_mm), radii_mm, organ, affine, self.gaps_mm, rng, case.name, scan=scan)

    def radii_for(self, scan: Scan, case: str) -> np.ndarray:
        """Quantiles of the radii (mm) to draw from for a scan; what the painting crop cannot hold is cut off.

        Raises:
            InputError: where even the smallest radius asked for is too large.
        """
        largest = self.max_radius_mm
        if self.crop is not None:
            size, spacing_mm = self.crop
            axes = crop_axes(scan.affine, spacing_mm)
            voxel = np.abs(np.linalg.solve(axes, scan.affine[:3, :3])).sum(axis=1)  # the scan's, in the crop's voxels
            room_mm = (np.array(size) - 2 * voxel) * np.sqrt((axes**2).sum(axis=0))
            largest = min(largest, float(room_mm.min()) / 2)
        quantiles = self.quantiles if self.options.radius_mm is None else np.array(self.options.radius_mm)
        if quantiles[0] > largest:
            raise InputError(
                f"a radius of {quantiles[0]:g} mm is more than the {largest:.3g} mm that the crop of bundle "
                f"{self.options.bundle} holds of case {case}."
            )
        return np.minimum(quantiles, largest)


class MaskDrawer:
    """Draws the masks of a group's cases with the mask bundle's evaluator.

    Args:
        options: of the synthesis.
        engine: the mask bundle, its network loaded.
        labels: of the painting bundle.
        spheres: draws the control spheres.
    """

    def __init__(
        self, options: SynthesisOptions, engine: BundleEngine, labels: LesionLabels, spheres: SphereDrawer
    ) -> None:
        self.options, self.engine, self.labels, self.spheres = options, engine, labels, spheres

    def prepare(self, case: SyntheticCase) -> None:
        """Chooses the sites of a case; InputError where that cannot be done."""
        for number, (centre, radius) in enumerate(self.spheres(case), start=1):
            case.sites.append(
                {
                    "centre_mm": [float(v) for v in centre],
                    "radius_mm": float(radius),
                    "seed": derive_seed(self.options.seed, case.name, number, 1, "mask"),
                    "distance_to_border_mm": border_distance_mm(case.organ.mask, case.image.affine, centre),
                }
            )

    def draw(self, cases: Sequence[SyntheticCase]) -> dict[str, list[BoxedMask]]:
        """Draws the masks of prepared cases, batches composed over all of them: case -> a mask for each site."""
        items = []
        for case in cases:
            target = LoadedTarget(case.name, case.image, case.organ.mask)
            for number, site in enumerate(case.sites, start=1):
                sphere = tuple(site["centre_mm"]), site["radius_mm"]
                spec = MaskSpec(case.name, 1, number, *sphere, site["seed"])
                items.append({"target": target, "spec": spec, "index": len(items)})
        drawn: UserDict[str, list[BoxedMask]] = UserDict()  # which MONAI, unlike a dict, does not take for a config
        saver = {"_target_": f"{__name__}.BoxedMaskSaver", "drawn": "@drawn"}
        self.engine.evaluate(saver, masks=tuple(items), drawn=drawn)
        return drawn.data

    def finish(self, case: SyntheticCase, masks: Sequence[BoxedMask]) -> None:
        """Puts a case's masks together; InputError where one is empty."""
        case.lesions, numbers = compose_lesions(case.image, masks, self.labels, case.organ.anatomy)
        case.number_sites(numbers)


def border_distance_mm(organ: np.ndarray | None, affine: np.ndarray, point_mm: Sequence[float]) -> float | None:
    """From a point in an organ to the nearest voxel outside it, or to the end of the scan; below 0 outside the organ.

    Only the surroundings are looked at. None where there is no organ (X, Y, Z) bool.
    """
    if organ is None:
        return None
    index = np.linalg.solve(affine, [*point_mm, 1.0])[:3]
    nearest = tuple(np.clip(np.rint(index), 0, np.array(organ.shape) - 1).astype(int))
    inside = bool(organ[nearest])
    step_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    reach_mm = 16.0
    while True:
        reach = np.ceil(reach_mm / step_mm)
        box = tuple(
            slice(max(0, int(i - r)), min(n, int(i + r) + 1)) for i, r, n in zip(index, reach, organ.shape, strict=True)
        )
        part = np.pad(organ[box], 1)  # what lies beyond the scan is outside; within it, the box grows until it tells
        grown = [part_.start > 0 or part_.stop < n for part_, n in zip(box, organ.shape, strict=True)]
        other = np.argwhere(part != inside) + [part_.start - 1 for part_ in box]
        if len(other):
            distance = float(np.linalg.norm((other - index) @ affine[:3, :3].T, axis=1).min())
            if distance <= reach_mm or not any(grown):
                return round(distance if inside else -distance, 3)
        reach_mm *= 2
