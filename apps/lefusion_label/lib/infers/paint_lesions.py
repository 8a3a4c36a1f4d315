"""Lesions painted where a segmentation says, the painted scan kept as a new sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferType

from custom_components.synthesis.engines import BundleEngine
from custom_components.volumes import read_scan, write_scan

from ..loaded_bundle import LoadedBundle
from ..options import read_choice, read_number, read_texture
from ..samples import add_sample, keeps_samples
from ..segmentations import find_segmentation, write_label_map
from ..weights import WeightsFolder
from .lesion_task import MAX_SEED, TAGS, LesionTask, keep_file

__all__ = ["PaintLesions"]

RESULTS = ("mask", "image")


class PaintLesions(LesionTask):
    """Paints a lesion into every connected component of a segmentation, and changes nothing else.

    Args:
        bundle: name or folder of the painting bundle.
        weights: those trained here.
    """

    def __init__(self, bundle: str | Path, weights: WeightsFolder) -> None:
        loaded = LoadedBundle(bundle, weights, _planner)
        self.classes = loaded.config.labels
        super().__init__(loaded, InferType.SCRIBBLES, {**self.classes.anatomy, **self.classes.classes})
        conditioner = loaded.config.value("conditioner")
        self.textures = {
            name: ["random", *(conditioner[name] if isinstance(conditioner, Mapping) else conditioner).presets, "none"]
            for name in self.classes.names
        }

    def config(self) -> dict[str, Any]:
        """Options that a client may show, with their defaults."""
        names = self.classes.names
        several = len(names) > 1
        textures = {f"texture_{name}" if several else "texture": self.textures[name] for name in names}
        return {
            **textures,
            **({} if several else {"textures": ""}),
            "seed": 0,
            "steps": self.steps,
            "result": list(RESULTS),
            "tag": list(TAGS),
            "weights": self.bundle.weights.names(),
        }

    def answer(
        self, request: Mapping[str, Any], image: str, path: Path, datastore: Datastore, folder: Path
    ) -> tuple[Path, dict[str, Any]]:
        """The lesions' mask, or with ``result`` = ``image`` the painted scan. See :class:`LesionTask`."""
        texture = read_texture(request, self.classes.names)
        seed = read_number(request, "seed", 0, 0, MAX_SEED)
        steps = read_number(request, "steps", self.steps, 1, self.max_steps)
        result, tag = read_choice(request, "result", RESULTS), read_choice(request, "tag", TAGS)
        source, label_info = find_segmentation(request, image, datastore)
        scan, label = read_scan(path), folder / "mask.nii.gz"
        write_label_map(source, label_info, scan, self.classes, label)
        engine = self.bundle.engine(request)
        case = {"case": image, "image": str(path), "label": str(label)}
        items = self.bundle.prepared(cases=[case], texture=texture, seed=seed)
        settings = {
            "texture": texture,
            "seed": seed,
            "num_inference_steps": steps,
            "output_dir": str(folder / "painted"),
            "panel": False,
        }
        for key, value in settings.items():
            engine.parser[key] = value
        engine.evaluate({}, lesions=tuple(items))
        painted = folder / "painted" / f"{image}_lefusion.nii.gz"
        sidecar = json.loads((folder / "painted" / f"{image}_lefusion.json").read_text())
        values = np.asarray(nib.load(label).dataobj)
        names = {name: value for name, value in self.labels.items() if (values == value).any()}
        params: dict[str, Any] = {"label_names": names, "lesions": sidecar["lesions"], "sidecar": sidecar}
        params["sample"] = None
        if keeps_samples(datastore) and image in datastore.list_images():
            image_info = {"synthetic": True, "source": image, "model": self.bundle.root.name, "sidecar": sidecar}
            label_params = {"params": {"label_names": names}, "label_info": _label_info(names)}
            params["sample"] = add_sample(image, painted, label, tag, image_info, label_params, datastore)
        if result == "image":
            return keep_file(painted), params
        selected = self._selected(request, values)
        if selected is not None:
            write_scan(scan, selected, label, scaled=False)
        return keep_file(label), params

    def _selected(self, request: Mapping[str, Any], values: np.ndarray) -> np.ndarray | None:
        """The lesions for the one segment that 3D Slicer replaces by the answer: of its class, or else all.

        None where the client takes whole label maps.
        """
        if "selected_label_name" not in request:
            return None
        name = str(request["selected_label_name"]).lower()
        known = {own.lower(): value for own, value in self.labels.items()}
        mask = values == known[name] if name in known else self.classes.lesion(values)
        return mask.astype(np.uint8)


def _label_info(names: Mapping[str, int]) -> list[dict[str, Any]]:
    """The segments of a label map, as clients tell them."""
    return [{"name": name, "idx": value} for name, value in names.items()]


def _planner(engine: BundleEngine) -> Callable[..., list[dict[str, Any]]]:
    """Makes the components that stay, and returns the config's planner, for cases that it does not know yet."""
    engine.load("conditioner", "window")
    engine.parser["cases"] = ()
    engine.parser["lesions#_mode_"] = "callable"
    return engine.value("lesions")
