"""Images of the datastore, and painted scans added to it as new samples."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException

from custom_components.errors import InputError, first_line

__all__ = ["add_sample", "find_image", "is_received", "keeps_samples"]

TRIES, WAIT_S = 10, 0.05  # a local datastore is emptied and filled again while it looks for new files


def find_image(image: Any, datastore: Datastore) -> tuple[str, Path]:
    """Name and file (or DICOM folder) of the image that a request means.

    Args:
        image: an id of the datastore, or the path of a file that the server has received.
        datastore: where ids are looked up.

    Raises:
        InputError: for an unknown id.
    """
    if not isinstance(image, str) or not image:
        raise InputError("image must name an image of the datastore.")
    if is_received(image):
        return "upload", Path(image)
    if keeps_samples(datastore):
        path = _eventually(lambda: datastore.get_image_uri(image))
    else:
        try:
            path = datastore.get_image_uri(image)
        except Exception as error:  # whatever the server behind it, or the client that asks it, makes of the id
            raise InputError(f"the datastore cannot give image {image!r}: {first_line(error)}") from error
    if not path:
        raise InputError(f"the datastore has no image {image!r}.")
    return image, Path(path)


def is_received(path: str) -> bool:
    """Whether a request's path is a file that the server has received, and no other that a client may have named."""
    if not Path(path).is_absolute() or not Path(path).exists():
        return False
    sessions = settings.MONAI_LABEL_SESSION_PATH or Path.home() / ".cache" / "monailabel" / "sessions"
    return any(Path(path).resolve().is_relative_to(Path(own).resolve()) for own in (tempfile.gettempdir(), sessions))


def keeps_samples(datastore: Datastore) -> bool:
    """Whether new samples can be added: only a folder takes any image; a DICOM server keeps those of its series."""
    return type(datastore) is LocalDatastore


def add_sample(
    source: str,
    image: Path,
    label: Path,
    tag: str,
    image_info: Mapping[str, Any],
    label_info: Mapping[str, Any],
    datastore: Datastore,
) -> str:
    """Adds a painted scan and its label map to the datastore and returns its id, ``SOURCE_lefusion_1``, ``_2``, ...

    Args:
        source: id of the image it was made of.
        image, label: NIfTI files, which are copied.
        tag: of the label: ``original`` leaves the sample to be looked at and submitted, ``final`` counts as submitted.
        image_info, label_info: what the datastore keeps with them.
        datastore: a folder.
    """
    number, known = 1, set(datastore.list_images())
    while f"{source}_lefusion_{number}" in known or datastore.get_image_uri(f"{source}_lefusion_{number}"):
        number += 1
    name = f"{source}_lefusion_{number}"

    def added() -> str:
        if not datastore.get_image_info(name).get("synthetic"):
            datastore.add_image(name, str(image), dict(image_info))
        try:
            datastore.save_label(name, str(label), tag, dict(label_info))
        except ImageNotFoundException:
            return ""
        kept = datastore.get_image_info(name).get("synthetic") and datastore.get_label_info(name, tag).get("params")
        return name if kept else ""

    if not _eventually(added):
        raise RuntimeError(f"the datastore did not keep the sample {name}.")
    return name


def _eventually(attempt: Callable[[], str]) -> str:
    """The first answer that is not empty, or the last one."""
    for _ in range(TRIES):
        if answer := attempt():
            return answer
        time.sleep(WAIT_S)
    return ""
