"""From cases and texture requests to lesion specifications: all checks and all draws, before any sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .conditioners import HistogramConditioner, histogram_mean
from .errors import InputError
from .grids import box_extent, crop_axes
from .labels import LesionLabels
from .seeds import derive_seed
from .specs import CaseLesions, LesionSpec, box_centre_mm, lesions_of
from .transforms import read_crop
from .volumes import check_scan, read_scan
from .windows import FixedWindow, Window

__all__ = ["check_texture", "plan_lesions"]

# A texture's name, a histogram, or one of these for each class; for all lesions, or a list with one for each.
Texture = str | Sequence[float] | Mapping[str, Any] | Sequence[Any] | None
TRIES = 100


def plan_lesions(
    cases: Sequence[dict[str, Any]],
    conditioner: HistogramConditioner | Mapping[str, HistogramConditioner],
    texture: Texture = "random",
    seed: int = 0,
    spatial_size: Sequence[int] = (64, 64, 32),
    spacing_mm: Sequence[float] | None = (1.0, 1.0, 1.0),
    window: Window | None = None,
    labels: LesionLabels | None = None,
    contrasts: Sequence[Sequence[Any]] = (),
    air_below: float | None = None,
    replay: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Checks every case and draws a :class:`LesionSpec` for each of its lesions, before any sampling.

    Args:
        cases: dictionaries with ``image`` and ``label`` paths and a unique ``case`` name; a case's own
            ``lesion_texture`` takes precedence. ``lesions``, a :class:`~custom_components.specs.CaseLesions` whose scan
            has been checked, is used in place of the files.
        conditioner: makes histograms of texture requests, one for all classes or one for each.
        texture: one request for all lesions (a name, ``random``, ``none``, 16 numbers, or a dictionary with one of
            these for each class), or a list with one request for each lesion of every case, from the feet to the
            head.
        seed: run seed; a lesion's draws depend on it, the case's name and the lesion's number.
        spatial_size, spacing_mm: the crop a lesion must fit into; without a spacing the scan's own grid is kept.
        window: finds the values that become -1 and 1; (-1000, 400) HU by default.
        labels: the meaning of the label maps; masks of 0 and 1 by default.
        contrasts: (darker, brighter, least, most): two lesion classes or anatomy, and how far apart their means lie
            in real scans, in units of the network's [-1, 1]. Textures drawn at random are drawn again until that
            holds; what is asked for by name is painted as asked.
        air_below: see :func:`~custom_components.volumes.check_scan`.
        replay: a sidecar written earlier, whose textures and seeds are used again.

    Returns:
        One dictionary per lesion (classes painted jointly are one): ``image``, ``label``, ``specs``, ``index``, and the
        case's ``lesions`` where it has them.

    Raises:
        InputError: for the first thing that is wrong.
    """
    labels = LesionLabels() if labels is None else labels
    window = FixedWindow(-1000, 400) if window is None else window
    conditioners = conditioner if isinstance(conditioner, Mapping) else dict.fromkeys(labels.names, conditioner)
    _check_names(cases)
    known = (*labels.classes, *labels.anatomy)
    for entry in contrasts:
        if len(entry) != 4 or not entry[2] <= entry[3]:
            raise InputError(f"contrasts must hold entries [darker, brighter, least, most], got {list(entry)}.")
        for name in entry[:2]:
            if name not in known:
                raise InputError(f"contrasts name {name!r}; known: {', '.join(known)}.")
    for case in cases:
        check_texture(case.get("lesion_texture", texture), conditioners, labels)
    earlier = _read_replay(replay) if replay else None
    items: list[dict[str, Any]] = []
    for case in tqdm(cases, desc="checking", disable=len(cases) < 5):
        if "lesions" not in case:  # before the label is looked at
            check_scan(read_scan(case["image"]), air_below)
        lesions = lesions_of(case, labels)
        requests = _requests(case.get("lesion_texture", texture), len(lesions.boxes), case["case"])
        if earlier is not None and len(earlier) != len(lesions.boxes):
            raise InputError(
                f"sidecar {replay} tells of {_count(len(earlier))}, case {case['case']} has {len(lesions.boxes)}."
            )
        for number, request in enumerate(requests, start=1):
            centre = _crop_centre(lesions, number, labels, spatial_size, spacing_mm, case["label"])
            image, label, _ = read_crop(lesions, centre, spatial_size, spacing_mm)
            low, high = _window(window, image, labels.lesion(label), case["image"])
            rng = np.random.default_rng(derive_seed(seed, case["case"], number, "texture"))
            present = _class_boxes(lesions, number, labels)
            if earlier is not None:
                textures, noise_seed = earlier[number - 1]
                if set(textures) != set(present):
                    raise InputError(
                        f"sidecar {replay} tells of {', '.join(textures)} in lesion {number}, "
                        f"case {case['case']} has {', '.join(present)}."
                    )
            else:
                noise_seed = derive_seed(seed, case["case"], number, "noise")
                wanted = _by_class(request, labels.names)
                scaled = ((image - low) * (2 / (high - low)) - 1).clip(-1, 1)
                anatomy = {n: float(scaled[label == v].mean()) for n, v in labels.anatomy.items() if (label == v).any()}
                textures = _draw({n: (conditioners[n], wanted[n]) for n in present}, rng, contrasts, anatomy)
            specs = []
            for name, (box, voxels) in present.items():
                volume = voxels * float(np.abs(np.linalg.det(lesions.scan.affine[:3, :3])))
                specs.append(
                    LesionSpec(
                        case=case["case"],
                        lesion=number,
                        lesion_class=name,
                        centre_mm=box_centre_mm(box, lesions.scan.affine),
                        voxels=voxels,
                        volume_mm3=volume,
                        radius_mm=(3 * volume / (4 * np.pi)) ** (1 / 3),
                        box=tuple((part.start, part.stop) for part in box),
                        texture=textures[name][0],
                        histogram=tuple(float(v) for v in textures[name][1]),
                        seed=int(noise_seed),
                        crop_centre_mm=centre,
                        window=(low, high),
                    )
                )
            files = {key: case[key] for key in ("image", "label", "lesions") if key in case}
            items.append({**files, "specs": specs, "index": len(items)})
    return items


def check_texture(
    request: Texture, conditioner: HistogramConditioner | Mapping[str, HistogramConditioner], labels: LesionLabels
) -> None:
    """Raises InputError where a texture request, of all lesions or a list with one for each, names what is not known.

    Arguments as :func:`plan_lesions`.
    """
    for part in request if _is_per_lesion(request) else [request]:
        for name, own in _by_class(part, labels.names).items():
            (conditioner[name] if isinstance(conditioner, Mapping) else conditioner).check_request(own)


def _check_names(cases: Sequence[dict[str, Any]]) -> None:
    """Names become file names: they must be unique and free of folders."""
    names = [case["case"] for case in cases]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise InputError(f"two cases are named {sorted(twice)[0]!r}; their outputs would share a name.")
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"a case cannot be named {name!r}: its files take its name.")


def _class_boxes(lesions: CaseLesions, number: int, labels: LesionLabels) -> dict[str, tuple[tuple[slice, ...], int]]:
    """Bounding box and number of voxels of each class that a lesion has."""
    whole = lesions.boxes[number - 1]
    found = {}
    for name, value in labels.classes.items():
        mask = (lesions.label[whole] == value) & (lesions.instances[whole] == number)
        if mask.any():
            box = ndimage.find_objects(mask.astype(np.uint8))[0]
            start = [part.start for part in whole]
            moved = tuple(slice(a.start + b, a.stop + b) for a, b in zip(box, start, strict=True))
            found[name] = (moved, int(mask.sum()))
    return found


def _crop_centre(
    lesions: CaseLesions,
    number: int,
    labels: LesionLabels,
    spatial_size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    path: str | Path,
) -> tuple[float, float, float]:
    """Middle of a lesion's crop: the lesion's own, or that of ``centre_on``, moved as far as the lesion needs.

    Raises InputError where the lesion's bounding box, turned to the crop's axes, is larger than the crop.
    """
    box, affine = lesions.boxes[number - 1], lesions.scan.affine
    axes = crop_axes(affine, spacing_mm)
    extent = box_extent(box, affine, axes)
    size = np.array(spatial_size)
    if (extent > size + 1e-3).any():
        step = np.sqrt((axes**2).sum(axis=0))
        raise InputError(
            f"lesion {number} of mask {path} measures {' x '.join(f'{v:.0f}' for v in extent * step)} mm, "
            f"larger than the crop of {' x '.join(f'{v:.0f}' for v in size * step)} mm; "
            f"a larger spatial_size than {size.tolist()} voxels makes room."
        )
    lesion = np.array(box_centre_mm(box, affine))
    if not labels.centre_on:
        return tuple(float(v) for v in lesion)
    region = ndimage.find_objects(labels.region(lesions.label).astype(np.uint8))[0]
    offset = np.linalg.solve(axes, np.array(box_centre_mm(region, affine)) - lesion)
    room = np.maximum(0, (size - extent) / 2 - 1)  # one voxel less: the crop's grid may lie half a voxel off
    return tuple(float(v) for v in lesion + axes @ offset.clip(-room, room))


def _window(window: Window, image: np.ndarray, lesion: np.ndarray, path: str | Path) -> tuple[float, float]:
    try:
        return window(image[~lesion] if not lesion.all() else image)
    except InputError as error:
        raise InputError(f"image {path}: {error}") from error


def _draw(
    requests: Mapping[str, tuple[HistogramConditioner, Any]],
    rng: np.random.Generator,
    contrasts: Sequence[Sequence[Any]],
    anatomy: Mapping[str, float],
) -> dict[str, tuple[str, np.ndarray]]:
    """Texture name and histogram of each class; random ones are drawn again while their contrasts are not real.

    ``anatomy`` gives means. Where no draw will do, the one that comes closest is taken.
    """
    best, smallest = {}, np.inf
    for _ in range(TRIES):
        drawn = {name: conditioner(request, rng) for name, (conditioner, request) in requests.items()}
        means = {**anatomy, **{n: histogram_mean(values) for n, (_, values) in drawn.items() if values.any()}}
        violation = 0.0
        for dark, bright, least, most in contrasts:
            if dark in means and bright in means:
                contrast = means[bright] - means[dark]
                violation += max(0.0, least - contrast, contrast - most)
        if violation < smallest:
            best, smallest = drawn, violation
        if violation == 0:
            break
    return best


def _by_class(request: Any, names: Sequence[str]) -> dict[str, Any]:
    """A lesion's request for each class."""
    if not isinstance(request, Mapping):
        return dict.fromkeys(names, request)
    unknown = [name for name in request if name not in names]
    if unknown:
        raise InputError(f"texture names the class {unknown[0]!r}; known: {', '.join(names)}.")
    return {name: request.get(name, "random") for name in names}


def _is_per_lesion(request: Texture) -> bool:
    """Whether a request is a list with one entry per lesion, rather than one histogram or name."""
    return (
        isinstance(request, Sequence)
        and not isinstance(request, str)
        and any(isinstance(part, str | Sequence | Mapping) or part is None for part in request)
    )


def _requests(request: Texture, count: int, case: str) -> list:
    if not _is_per_lesion(request):
        return [request] * count
    if len(request) != count:
        raise InputError(f"texture lists {_count(len(request), 'request')}, but case {case} has {_count(count)}.")
    return list(request)


def _count(number: int, what: str = "lesion") -> str:
    """A number of things in words: 1 lesion, 2 lesions."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def _read_replay(path: str | Path) -> list[tuple[dict[str, tuple[str, np.ndarray]], int]]:
    """Textures by class, and the seed, of each lesion of an earlier sidecar."""
    lesions: dict[int, tuple[dict[str, tuple[str, np.ndarray]], int]] = {}
    try:
        for entry in json.loads(Path(path).read_text())["lesions"]:
            spec = entry["spec"]
            textures, _ = lesions.setdefault(spec["lesion"], ({}, spec["seed"]))
            textures[spec["lesion_class"]] = (spec["texture"], np.asarray(spec["histogram"], dtype=np.float32))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read lesions to replay from {path}: {error!r}.") from error
    return [lesions[number] for number in sorted(lesions)]
