"""Gives the scan that was painted last, so that a client can look at it."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

__all__ = ["NewestSynthetic"]


class NewestSynthetic(Strategy):
    """The newest painted scan that nobody has submitted a label for; the first image without a label where none is."""

    def __init__(self) -> None:
        super().__init__("The scan that was painted last")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        if not images:
            return None
        info = {image: datastore.get_image_info(image) for image in images}
        painted = [image for image in images if info[image].get("synthetic")]
        # Two scans may be painted within the second that time stamps count: the later has the higher number.
        order = {image: (info[image].get("ts", 0), len(image), image) for image in painted}
        return {"id": max(painted, key=order.__getitem__) if painted else images[0]}
