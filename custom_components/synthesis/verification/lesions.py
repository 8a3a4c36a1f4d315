"""Each lesion in the files of a case against what the sidecar tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ...conditioners import lesion_histogram
from ...metrics import histogram_distance
from ...specs import box_centre_mm
from ...volumes import Scan

__all__ = ["label_faults", "lesion_faults"]

# Sidecars round to 3 and 6 decimals.
CENTRE_MM, MEAN, DISTANCE = 1e-3, 2e-3, 1e-4
# The texture was measured where it was painted, at the model's spacing; on the scan's own grid it is slightly another,
# the more so the fewer voxels a lesion has there: the distance may be this, and so many standard errors of the mean.
TEXTURE, STANDARD_ERRORS = 0.1, 2.0


def label_faults(label: np.ndarray, instances: np.ndarray, label_values: Mapping[str, int]) -> list[str]:
    """Sentences on a label map that knows other values, or other lesion voxels, than it should.

    Args:
        label, instances: (X, Y, Z) whole numbers.
        label_values: lesion class -> its value.
    """
    strange = sorted(set(np.unique(label[label > 0]).tolist()) - set(label_values.values()))
    found = [f"holds {strange[0]:g}, which is no lesion class."] if strange else []
    differing = int(((label > 0) != (instances > 0)).sum())
    if differing:
        found.append(f"disagrees with the instances about {_voxels(differing)}.")
    return found


def lesion_faults(
    sidecar: Mapping[str, Any], image: Scan, label: np.ndarray, instances: np.ndarray, label_values: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Pairs of a role (image, label, instances, sidecar) and what is wrong with its lesions.

    Args:
        sidecar: its ``lesions`` are compared.
        image: the scan with its lesions.
        label, instances: (X, Y, Z) whole numbers, on the image's grid.
        label_values: lesion class -> its value in the label map.
    """
    told = sorted({entry["spec"]["lesion"] for entry in sidecar["lesions"]})
    present = np.unique(instances[instances > 0]).tolist()
    if told != list(range(1, len(told) + 1)):
        yield "sidecar", f"numbers its lesions {', '.join(map(str, told))}, not 1 to {len(told)}."
    for number in told:
        if number not in present:
            yield "instances", f"lacks lesion {number}, of which the sidecar tells."
    for number in present:
        if number not in told:
            yield "instances", f"holds a lesion {number}, of which the sidecar does not tell."
    common = sorted(set(told).intersection(present))
    boxes = ndimage.find_objects(instances, common[-1]) if common else []
    for number in common:
        outer = boxes[number - 1]
        own, rest = instances[outer] == number, int((instances[outer] == number).sum())
        for entry in (entry for entry in sidecar["lesions"] if entry["spec"]["lesion"] == number):
            name = entry["spec"]["lesion_class"]
            if name not in label_values:
                yield "sidecar", f"tells of a lesion class {name!r}, the set has {', '.join(label_values)}."
                continue
            inside = own & (label[outer] == label_values[name])
            rest -= int(inside.sum())
            if not inside.any():
                yield "label", f"lacks class {name} of lesion {number}."
                continue
            yield from (("sidecar", fault) for fault in _size_faults(entry["spec"], inside, outer, image.affine))
            stored = image.stored[outer][inside]
            values = image.slope * stored.astype(np.float64) + image.intercept
            yield from (("image", fault) for fault in _texture_faults(entry, values))
        if rest:
            yield "label", f"gives {_voxels(rest)} of lesion {number} a class of which the sidecar does not tell."


def _size_faults(
    spec: Mapping[str, Any], inside: np.ndarray, outer: tuple[slice, ...], affine: np.ndarray
) -> list[str]:
    """Number of voxels, volume, radius, box and centre of one class of a lesion.

    ``inside`` is the bool mask of its voxels in the box ``outer``.
    """
    who, voxels = f"lesion {spec['lesion']} ({spec['lesion_class']})", int(inside.sum())
    inner = ndimage.find_objects(inside.astype(np.uint8))[0]
    box = [slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True)]
    found = []
    if voxels != spec["voxels"]:
        found.append(f"tells of {_voxels(spec['voxels'])} of {who}, the label map holds {voxels}.")
    volume = voxels * float(np.abs(np.linalg.det(affine[:3, :3])))
    if voxels == spec["voxels"] and not np.isclose(volume, spec["volume_mm3"], rtol=1e-4):
        found.append(f"gives {who} a volume of {spec['volume_mm3']:.1f} mm3, it has {volume:.1f} mm3.")
    if not np.isclose((3 * spec["volume_mm3"] / (4 * np.pi)) ** (1 / 3), spec["radius_mm"], rtol=1e-4):
        found.append(f"gives {who} a radius of {spec['radius_mm']:.3f} mm, which is not that of its volume.")
    if [[part.start, part.stop] for part in box] != [list(part) for part in spec["box"]]:
        found.append(f"gives {who} another box than the label map.")
    elif not np.allclose(box_centre_mm(box, affine), spec["centre_mm"], rtol=0, atol=CENTRE_MM):
        found.append(f"gives {who} another centre than that of its box.")
    return found


def _texture_faults(entry: Mapping[str, Any], values: np.ndarray) -> list[str]:
    """What was achieved in one class of a lesion, whose voxels (n,) have ``values`` in the scan's units."""
    spec, found = entry["spec"], []
    who = f"lesion {spec['lesion']} ({spec['lesion_class']})"
    for key, value in (("mean_painted", values.mean()), ("std_painted", values.std())):
        if abs(value - entry[key]) > MEAN:
            found.append(f"has a {key} of {value:.3f} in {who}, the sidecar tells of {entry[key]:.3f}.")
    achieved = entry.get("achieved_histogram")
    if achieved is None:
        return found
    achieved, requested = np.array(achieved, np.float32), np.array(spec["histogram"], np.float32)
    low, high = spec["window"]
    scaled = torch.from_numpy((values - low) * (2 / (high - low)) - 1)
    actual = lesion_histogram(scaled, torch.ones_like(scaled), len(achieved)).numpy()
    if achieved.sum() > 0 and actual.sum() > 0:
        apart = histogram_distance(achieved / achieved.sum(), actual / actual.sum())  # some values are in no bin
    else:
        apart = 0.0 if achieved.sum() == actual.sum() else np.inf
    if apart > TEXTURE + STANDARD_ERRORS * float(scaled.numpy().std()) / len(values) ** 0.5:
        found.append(f"has another texture in {who} than the achieved one that the sidecar tells of.")
    distance = histogram_distance(requested, achieved) if requested.sum() > 0 else None
    claimed = entry["histogram_distance"]
    if (distance is None) != (claimed is None) or (distance is not None and abs(distance - claimed) > DISTANCE):
        found.append(f"has in {who} another histogram distance than the sidecar tells of.")
    return found


def _voxels(count: int) -> str:
    return f"{count} voxel" if count == 1 else f"{count} voxels"
