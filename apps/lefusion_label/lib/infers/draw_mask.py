"""A lesion mask for every click, drawn by the mask bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferType

from custom_components.errors import InputError
from custom_components.mask_specs import plan_masks
from custom_components.mask_targets import MaskTarget

from ..loaded_bundle import LoadedBundle
from ..options import read_choice, read_clicks, read_number, read_radii
from .lesion_task import MAX_SEED, TAGS, LesionTask, keep_file

__all__ = ["DrawMask"]

RADIUS_MM = 8.0  # where the client names none


class DrawMask(LesionTask):
    """Draws a mask around each foreground click. A click is the centre of a lesion, in voxels (i, j, k) of the image.

    Args:
        bundle: the mask bundle.
        label: name of the lesion.
    """

    def __init__(self, bundle: LoadedBundle, label: str = "lesion") -> None:
        super().__init__(bundle, InferType.DEEPGROW, {label: bundle.config.value("class_labels")[0]})

    def config(self) -> dict[str, Any]:
        """Options that a client may show, with their defaults."""
        return {"radius": RADIUS_MM, "seed": 0, "steps": self.steps, "weights": self.bundle.weights.names()}

    def answer(
        self, request: Mapping[str, Any], image: str, path: Path, datastore: Datastore, folder: Path
    ) -> tuple[Path, dict[str, Any]]:
        """The mask on the image's grid. See :class:`LesionTask`."""
        clicks = read_clicks(request)
        radii = read_radii(request, "radius", RADIUS_MM, len(clicks))
        seed = read_number(request, "seed", 0, 0, MAX_SEED)
        steps = read_number(request, "steps", self.steps, 1, self.max_steps)
        tag = read_choice(request, "label_tag", TAGS)
        items = plan_masks(
            [MaskTarget(image, str(path))],
            spheres=[[*click, radius] for click, radius in zip(clicks, radii, strict=True)],
            coordinates="voxel",
            seed=seed,
            max_radius_mm=self.bundle.config.value("max_radius_mm"),
        )
        engine = self.bundle.engine(request)
        settings = {"seed": seed, "num_inference_steps": steps, "output_dir": str(folder), "panel": False}
        for key, value in settings.items():
            engine.parser[key] = value
        engine.evaluate({}, masks=tuple(items))
        sidecar = json.loads((folder / f"{image}_masks.json").read_text())
        for number, mask in enumerate(sidecar["masks"], start=1):
            if mask["voxels"] == 0:
                raise InputError(f"the mask of click {number} is empty: take a larger radius or another seed.")
        result = folder / f"{image}_mask_1.nii.gz"
        params = {"label_names": self.labels, "lesions": sidecar["masks"], "sidecar": sidecar}
        # An image that was sent along is not kept, and neither is its mask.
        if str(request.get("save_label", "")).lower() == "true" and image in datastore.list_images():
            params["label"] = datastore.save_label(image, str(result), tag, {"params": params})
        return keep_file(result), params
