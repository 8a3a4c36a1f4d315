"""One heart's lesions, copied as labels into the wall of another heart, with volumes and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

from custom_components import lesion_transfer
from custom_components.datasets import SCAN_SUFFIXES
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.volumes import Scan, read_scan, write_scan

COLOURS = ("black", "tab:blue", "tab:green", "gold", "tab:red", "tab:purple", "tab:cyan")
SUFFIX = ".nii.gz"


def copy_lesions(
    source_labels: str,
    target_labels: str,
    output: str,
    rotation_deg: float = 0.0,
    cavity: int = 1,
    myocardium: int = 2,
    classes: Sequence[int] = (3, 4),
    picture: bool = True,
    overwrite: bool = False,
) -> None:
    """Lay the lesions of a short-axis label map into the myocardium of another heart's label map.

    Args:
        source_labels: NIfTI with cavity, myocardium and lesions.
        target_labels: NIfTI with the cavity and myocardium of a heart without lesions.
        output: .nii.gz file: the target's labels with the lesions laid over, on its grid, with its header.
        rotation_deg: turns the lesions around the middle of the cavity, from the target's first in-plane array axis
            to its second. Without it they keep their direction in the patient's coordinates, since no landmark says
            how the two hearts lie in their bodies.
        cavity: the label of the left ventricle's cavity, in both files.
        myocardium: the label of its wall.
        classes: the lesions' labels, such as 3,4.
        picture: whether to show both hearts in a .png beside the output.
        overwrite: replace existing outputs.
    """
    classes = tuple(classes) if isinstance(classes, Sequence) else (classes,)
    if not all(isinstance(label, int) and 0 < label < 256 for label in (cavity, myocardium, *classes)):
        raise InputError(f"cavity, myocardium and classes must be whole numbers from 1 to 255, got {classes}.")
    if not isinstance(rotation_deg, int | float) or not np.isfinite(rotation_deg):
        raise InputError(f"rotation_deg must be a number, got {rotation_deg!r}.")
    path = Path(output)
    if not path.name.endswith(SUFFIX):
        raise InputError(f"output {path} must end in {SUFFIX}.")
    check_writable(path.parent)
    panel = path.with_name(path.name.removesuffix(SUFFIX) + ".png") if as_flag(picture, "picture") else None
    for existing in filter(None, (path, panel)):
        if existing.exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"output {existing} exists; --overwrite true replaces it.")
    (source, there), (target, here) = _read_labels(source_labels), _read_labels(target_labels)
    result = lesion_transfer.copy_lesions(
        there,
        source.affine,
        here,
        target.affine,
        cavity=cavity,
        myocardium=myocardium,
        classes=classes,
        rotation_deg=rotation_deg,
        names=(f"labels {source.path}", f"labels {target.path}"),
    )
    write_scan(target, result, path, scaled=False)
    print(f"{'':8s}{'wall':>10s}" + "".join(f"{f'label {label}':>10s}" for label in classes) + "   (ml)")
    for name, scan, labels in (("source", source, there), ("target", target, result)):
        ml = abs(np.linalg.det(scan.affine[:3, :3])) / 1000
        wall = np.isin(labels, (myocardium, *classes)).sum() * ml
        print(f"{name:8s}{wall:10.1f}" + "".join(f"{(labels == label).sum() * ml:10.1f}" for label in classes))
    print(f"labels: {path}")
    if panel:
        known = (cavity, myocardium, *classes)
        write_atomically(panel, lambda temporary: _save_panel((there, source), (result, target), known, temporary))
        print(f"picture: {panel}")


def _read_labels(path: str) -> tuple[Scan, np.ndarray]:
    """A label map and its whole numbers (X, Y, Z) int64."""
    if not str(path).endswith(SCAN_SUFFIXES) or not Path(path).is_file():
        raise InputError(f"labels {path} is not a NIfTI file (.nii, .nii.gz).")
    scan = read_scan(path)
    values = scan.values()
    if not (np.isfinite(values).all() and np.array_equal(values, np.rint(values)) and values.min() >= 0):
        raise InputError(f"labels {path} must hold whole numbers, 0 or more.")
    return scan, values.astype(np.int64)


def _save_panel(
    source: tuple[np.ndarray, Scan], target: tuple[np.ndarray, Scan], known: Sequence[int], path: Path
) -> None:
    """All slices that hold heart, the source's above the target's.

    Args:
        source, target: labels (X, Y, Z) and their scan.
        known: the labels, coloured in this order.
        path: PNG file.
    """
    rows = []
    for labels, scan in (source, target):
        through = int(np.argmax(scan.spacing_mm))
        first, second = (axis for axis in range(3) if axis != through)
        index = np.argwhere(labels > 0)
        box = [slice(max(0, low - 3), high + 4) for low, high in zip(index.min(0), index.max(0), strict=True)]
        box[through] = slice(index[:, through].min(), index[:, through].max() + 1)
        coloured = np.searchsorted([0, *known], labels, sorter=np.argsort([0, *known]))
        ranks = np.argsort([0, *known])[coloured]
        rows.append((np.moveaxis(ranks[tuple(box)], through, 0), scan.spacing_mm[first] / scan.spacing_mm[second]))
    colours = ListedColormap([COLOURS[n % len(COLOURS)] for n in range(len(known) + 1)])
    columns = max(len(slices) for slices, _ in rows)
    figure, axes = plt.subplots(2, columns, figsize=(1.6 * columns, 3.6), squeeze=False, layout="constrained")
    for line, (slices, aspect), name in zip(axes, rows, ("source", "target"), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, labels in zip(line, slices, strict=False):
            axis.imshow(labels, cmap=colours, vmin=0, vmax=len(known), aspect=aspect, interpolation="nearest")
        line[0].set_title(name, fontsize=9, loc="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
