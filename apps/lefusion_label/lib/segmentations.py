"""From a client's segmentation to a bundle's label map: found, checked, and its classes told by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.volumes import Scan, check_same_grid, read_nifti, write_scan

from .samples import is_received

__all__ = ["find_segmentation", "saved_segmentation", "write_label_map"]

# Segments that 3D Slicer adds while its scribbles tool is used: the brush that paints a label, and one that erases.
BRUSH, ERASER = "foreground_scribbles", "background_scribbles"
BACKGROUND = ("background", ERASER)

LabelInfo = Sequence[Mapping[str, Any]] | None  # name and number of each segment, as 3D Slicer tells them


def find_segmentation(request: Mapping[str, Any], image: str, datastore: Datastore) -> tuple[Path, LabelInfo]:
    """The segmentation that came with a request, or else the one saved for the image.

    A client may send a segment's name as ``label``: only a file that the server has just received counts.

    Raises:
        InputError: where there is neither.
    """
    label = request.get("label")
    if isinstance(label, str) and is_received(label):
        return Path(label), _brush_told(request)
    found = saved_segmentation(image, datastore)
    if found is None:
        raise InputError(f"image {image} has no mask: send one as label, or save a segmentation of the image.")
    return found


def saved_segmentation(image: str, datastore: Datastore, tags: Sequence[str] = ()) -> tuple[Path, LabelInfo] | None:
    """The segmentation saved for an image, the submitted one before that of a model; None where there is none.

    Args:
        image: its id.
        datastore: where it is looked for.
        tags: the only tags that count; all by default.
    """
    saved = datastore.get_labels_by_image_id(image)
    known = [tag for tag in (DefaultLabelTag.FINAL, DefaultLabelTag.ORIGINAL) if tag in saved]
    for tag in [*known, *(tag for tag in saved if tag not in known)]:
        path = Path(datastore.get_label_uri(saved[tag], tag))
        if path.is_file() and (not tags or tag in tags):
            return path, datastore.get_label_info(saved[tag], tag).get("label_info")
    return None


def write_label_map(source: Path, label_info: LabelInfo, scan: Scan, labels: LesionLabels, path: Path) -> None:
    """Writes a segmentation as a bundle's label map, on the grid and with the header of its scan.

    Segments are told by their names where ``label_info`` gives them. A bundle with one lesion class takes the segment
    of that name, or, where there is none, everything that is segmented; a bundle with several knows them by their
    names, or, without names, by the values of its label maps.

    Args:
        source: the segmentation, NIfTI.
        label_info: ``name`` and ``id`` (or ``idx``) of each segment; None where names are unknown.
        scan: the image it belongs to.
        labels: the meaning of the bundle's label maps.
        path: of the file to write.

    Raises:
        InputError: for another grid, values that are no whole numbers, or, where the bundle has several classes,
            segments that have no name, or one that it does not know.
    """
    segmentation = read_nifti(source, "mask")
    check_same_grid(segmentation, scan, "mask")
    values = segmentation.values()
    if not np.isfinite(values).all() or (values != np.rint(values)).any() or (values < 0).any():
        raise InputError(f"mask {source} must hold whole numbers of at least 0.")
    known = {name.lower(): value for name, value in {**labels.classes, **labels.anatomy}.items()}
    numbers = _numbers(label_info)
    values[np.isin(values, [number for number, name in numbers.items() if name.lower() in BACKGROUND])] = 0
    present = {number: name for number, name in numbers.items() if (values == number).any()}
    if len(known) == 1:
        (name, value), named = next(iter(known.items())), [n for n, own in present.items() if own.lower() in known]
        mapped = np.where(np.isin(values, named) if named else values > 0, value, 0)
    elif not numbers:
        mapped = values
    else:
        mapped = np.zeros_like(values)
        for number, name in present.items():
            if name.lower() not in known:
                raise InputError(f"the segment {name!r} is none of {', '.join([*labels.classes, *labels.anatomy])}.")
            mapped[values == number] = known[name.lower()]
        unnamed = values[(values > 0) & ~np.isin(values, list(present))]
        if unnamed.size:
            raise InputError(f"label_info does not name the segment {unnamed[0]:g} of the mask.")
    labels.check(mapped, f"mask {source}")
    write_scan(scan, mapped.astype(np.uint8), path, scaled=False)


def _brush_told(request: Mapping[str, Any]) -> LabelInfo:
    """A request's ``label_info``; what was painted with the scribbles' brush belongs to the label chosen beside it."""
    label_info, chosen = request.get("label_info"), request.get("selected_label_name")
    if not isinstance(label_info, list) or not chosen:
        return label_info
    told = [entry for entry in label_info if isinstance(entry, Mapping)]
    return [{**entry, "name": chosen} if entry.get("name") == BRUSH else entry for entry in told]


def _numbers(label_info: LabelInfo) -> dict[int, str]:
    """The name of each number of a segmentation; empty where they are not told."""
    if label_info is not None and not isinstance(label_info, list):
        raise InputError(f'label_info must be a list, [{{"name": "lesion", "id": 1}}, ...], got {label_info!r}.')
    numbers = {}
    for place, entry in enumerate(label_info or [], start=1):
        if isinstance(entry, Mapping) and entry.get("name"):
            number = entry.get("id", entry.get("idx", place))
            try:
                numbers[int(number)] = str(entry["name"])
            except (TypeError, ValueError) as error:
                raise InputError(f"label_info numbers the segment {entry['name']!r} {number!r}.") from error
    return numbers
