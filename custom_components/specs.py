"""What to paint: every random choice is drawn once into a LesionSpec; applying one is deterministic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .conditioners import HistogramConditioner
from .errors import InputError
from .seeds import derive_seed
from .volumes import Scan, check_scan, newest_change, read_mask, read_scan

__all__ = ["LesionSpec", "find_lesions", "plan_lesions", "read_lesions"]

Texture = str | Sequence[float] | Sequence[str] | None


@dataclass(frozen=True)
class LesionSpec:
    """One lesion to paint.

    Attributes:
        case: name of the case.
        lesion: 1, 2, ... within the case, from the feet to the head.
        centre_mm: centre of the bounding box, RAS+ mm.
        voxels, volume_mm3, radius_mm: size of the mask; the radius is that of the ball of equal volume.
        box: first and one past the last voxel along each axis of the scan.
        texture: a preset's name, ``custom`` or ``none``.
        histogram: the requested texture histogram (16 values; zeros for ``none``).
        seed: of the lesion's noise.
    """

    case: str
    lesion: int
    centre_mm: tuple[float, float, float]
    voxels: int
    volume_mm3: float
    radius_mm: float
    box: tuple[tuple[int, int], ...]
    texture: str
    histogram: tuple[float, ...]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The bounding box as array slices."""
        return tuple(slice(start, stop) for start, stop in self.box)


def find_lesions(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, ...]]]:
    """Connected components (26 neighbours) of a mask, numbered from the feet to the head.

    Args:
        mask: (X, Y, Z) bool.
        affine: voxel indices to RAS+ mm.

    Returns:
        Instance numbers (X, Y, Z) int32, 0 for background, and the bounding box of each.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(labels)
    centres = [box_centre_mm(box, affine) for box in boxes]
    order = sorted(range(count), key=lambda i: tuple(np.round(centres[i][::-1], 3)))
    renumber = np.zeros(count + 1, dtype=np.int32)
    renumber[[old + 1 for old in order]] = np.arange(1, count + 1)
    return renumber[labels], [boxes[old] for old in order]


def read_lesions(image: str | Path, label: str | Path) -> tuple[Scan, np.ndarray, list[tuple[slice, ...]]]:
    """A scan with its lesions' instance numbers and boxes (see :func:`find_lesions`); the last is kept in memory.

    Raises:
        InputError: as :func:`~custom_components.volumes.read_scan` and :func:`~custom_components.volumes.read_mask`.
    """
    scan, label = read_scan(image), Path(label)
    return scan, *_find_cached(
        scan.path, newest_change(scan.path), label, newest_change(label) if label.exists() else 0.0
    )


@lru_cache(maxsize=1)
def _find_cached(image: Path, changed: float, label: Path, label_changed: float) -> tuple:
    scan = read_scan(image)
    return find_lesions(read_mask(label, scan), scan.affine)


def box_centre_mm(box: Sequence[slice], affine: np.ndarray) -> tuple[float, ...]:
    """Centre of a bounding box in RAS+ mm."""
    middle = [(part.start + part.stop - 1) / 2 for part in box]
    return tuple(float(v) for v in (affine @ [*middle, 1.0])[:3])


def plan_lesions(
    cases: Sequence[dict[str, Any]],
    conditioner: HistogramConditioner,
    texture: Texture = "random",
    seed: int = 0,
    spatial_size: Sequence[int] = (64, 64, 32),
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    air_below: float | None = -500.0,
    replay: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Checks every case and draws a :class:`LesionSpec` for each of its lesions, before any sampling.

    Args:
        cases: dictionaries with ``image`` and ``label`` paths and a unique ``case`` name; a case's own
            ``lesion_texture`` takes precedence.
        conditioner: makes histograms of texture requests.
        texture: one request for all lesions (a name, ``random``, ``none``, or 16 numbers), or a list with one
            request for each lesion of every case, from the feet to the head.
        seed: run seed; a lesion's draws depend on it, the case's name and the lesion's number.
        spatial_size, spacing_mm: the crop a lesion must fit into.
        air_below: see :func:`~custom_components.volumes.check_scan`.
        replay: a sidecar written earlier, whose textures and seeds are used again.

    Returns:
        One dictionary per lesion: ``image``, ``label``, ``spec``, ``index``.

    Raises:
        InputError: for the first thing that is wrong.
    """
    names = [case["case"] for case in cases]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise InputError(f"two cases are named {sorted(twice)[0]!r}; their outputs would share a name.")
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"a case cannot be named {name!r}: its files take its name.")
    for case in cases:
        request = case.get("lesion_texture", texture)
        for part in request if _is_per_lesion(request) else [request]:
            conditioner.check_request(part)
    earlier = _read_replay(replay) if replay else None
    items: list[dict[str, Any]] = []
    for case in tqdm(cases, desc="checking", disable=len(cases) < 5):
        scan = read_scan(case["image"])
        check_scan(scan, air_below)
        _, labels, boxes = read_lesions(case["image"], case["label"])
        requests = _requests(case.get("lesion_texture", texture), len(boxes), case["case"])
        if earlier is not None and len(earlier) != len(boxes):
            raise InputError(f"sidecar {replay} tells of {len(earlier)} lesions, case {case['case']} has {len(boxes)}.")
        for number, (box, request) in enumerate(zip(boxes, requests, strict=True), start=1):
            _check_extent(box, scan.affine, spatial_size, spacing_mm, case["label"], number)
            rng = np.random.default_rng(derive_seed(seed, case["case"], number, "texture"))
            name, histogram = conditioner(request, rng)
            noise_seed = derive_seed(seed, case["case"], number, "noise")
            if earlier is not None:
                old = earlier[number - 1]
                name, histogram, noise_seed = old["texture"], old["histogram"], old["seed"]
            voxels = int((labels[box] == number).sum())
            volume = voxels * float(np.abs(np.linalg.det(scan.affine[:3, :3])))
            spec = LesionSpec(
                case=case["case"],
                lesion=number,
                centre_mm=box_centre_mm(box, scan.affine),
                voxels=voxels,
                volume_mm3=volume,
                radius_mm=(3 * volume / (4 * np.pi)) ** (1 / 3),
                box=tuple((part.start, part.stop) for part in box),
                texture=name,
                histogram=tuple(float(v) for v in histogram),
                seed=int(noise_seed),
            )
            items.append({"image": case["image"], "label": case["label"], "spec": spec, "index": len(items)})
    return items


def _is_per_lesion(request: Texture) -> bool:
    """Whether a request is a list with one entry per lesion, rather than one histogram or name."""
    return (
        isinstance(request, Sequence)
        and not isinstance(request, str)
        and any(isinstance(part, str | Sequence) or part is None for part in request)
    )


def _requests(request: Texture, count: int, case: str) -> list:
    if not _is_per_lesion(request):
        return [request] * count
    if len(request) != count:
        raise InputError(f"texture lists {len(request)} requests, but case {case} has {count} lesions.")
    return list(request)


def _check_extent(
    box: Sequence[slice],
    affine: np.ndarray,
    spatial_size: Sequence[int],
    spacing_mm: Sequence[float],
    path: str | Path,
    number: int,
) -> None:
    """The lesion's bounding box, turned to RAS+ axes, must fit into the crop."""
    voxels = np.array([part.stop - part.start for part in box])
    extent_mm = np.abs(affine[:3, :3]) @ voxels
    crop_mm = np.array(spatial_size) * np.array(spacing_mm)
    if (extent_mm > crop_mm + 1e-3).any():
        raise InputError(
            f"lesion {number} of mask {path} measures {' x '.join(f'{v:.0f}' for v in extent_mm)} mm, "
            f"larger than the crop of {' x '.join(f'{v:.0f}' for v in crop_mm)} mm."
        )


def _read_replay(path: str | Path) -> list[dict[str, Any]]:
    try:
        specs = [lesion["spec"] for lesion in json.loads(Path(path).read_text())["lesions"]]
        return [{key: spec[key] for key in ("texture", "histogram", "seed")} for spec in specs]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"cannot read lesions to replay from {path}: {error!r}.") from error
