"""Training of a painting bundle on the images whose labels were submitted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from custom_components.errors import InputError, as_flag
from custom_components.files import write_atomically
from custom_components.labels import LesionLabels
from custom_components.synthesis.engines import BundleEngine
from custom_components.volumes import check_scan, read_scan
from lefusion_scripts.run import run

from ..options import read_choice, read_number
from ..segmentations import saved_segmentation, write_label_map
from ..weights import WeightsFolder

__all__ = ["TrainBundle"]

SETTINGS = {"paper": [], "cpu": ["train_cpu"]}  # name -> overlays of the training config


class TrainBundle(TrainTask):
    """Trains a bundle with its own training config; the weights are kept under a name of their own.

    Args:
        bundle: the painting bundle.
        labels: the meaning of its label maps.
        weights: where the weights go.
    """

    def __init__(self, bundle: BundleEngine, labels: LesionLabels, weights: WeightsFolder) -> None:
        super().__init__(f"Trains {bundle.root.name} on the submitted labels")
        self.root, self.labels, self.weights = bundle.root, labels, weights
        self.own_weights, self.air_below = str(bundle.value("weights")), bundle.value("air_below_hu")

    def config(self) -> dict[str, Any]:
        """Options that a client may show, with their defaults."""
        settings = list(SETTINGS) if torch.cuda.is_available() else list(SETTINGS)[::-1]
        return {"name": "", "max_epochs": 50, "settings": settings, "pretrained": True, "synthetic": False}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Trains, and returns the ``weights``' name, the ``run`` folder, the ``cases`` and those ``left_out``.

        Args:
            request: ``name`` of the weights, ``max_epochs``, ``settings`` (paper or cpu), ``pretrained`` (start from
                the bundle's weights), ``synthetic`` (learn from painted scans too).
            datastore: whose submitted labels are learnt from.

        Raises:
            InputError: for a bad option, or where fewer than two patients can be learnt from.
        """
        options = self.config()
        epochs = read_number(request, "max_epochs", options["max_epochs"], 1, 100_000)
        overlays = SETTINGS[read_choice(request, "settings", options["settings"])]
        pretrained = as_flag(request.get("pretrained", True), "pretrained")
        synthetic = as_flag(request.get("synthetic", False), "synthetic")
        name = self.weights.new_name(request)
        folder = self.weights.run(name)
        try:
            return self._train(datastore, name, folder, overlays, epochs, pretrained, synthetic)
        except Exception:
            if not any((folder / "training").rglob("*.pt")):  # nothing was learnt, and the name would be taken
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _train(
        self,
        datastore: Datastore,
        name: str,
        folder: Path,
        overlays: Sequence[str],
        epochs: int,
        pretrained: bool,
        synthetic: bool,
    ) -> dict[str, Any]:
        """Trains on what fits, in a folder that is not there yet."""
        entries, left_out = self._collect(datastore, synthetic, folder / "data")
        patients = {entry["patient"] for entry in entries}
        if len(patients) < 2:
            raise InputError(
                f"training needs submitted labels of two patients or more, one of them to validate; "
                f"{len(patients)} can be used{_reasons(left_out)}."
            )
        text = json.dumps(entries, indent=2) + "\n"
        write_atomically(folder / "data" / "datalist.json", lambda path: path.write_text(text))
        run(
            "training",
            str(self.root),
            overlays,
            dataset_dir=str(folder / "data"),
            output_dir=str(folder / "training"),
            max_epochs=epochs,
            val_fraction=max(0.2, 1 / len(patients)),
            pretrained=self.own_weights if pretrained else None,
        )
        self.weights.add(name, folder / "training" / "checkpoints" / "model.pt")
        return {"weights": name, "run": str(folder), "cases": len(entries), "left_out": left_out}

    def _collect(
        self, datastore: Datastore, synthetic: bool, folder: Path
    ) -> tuple[list[dict[str, str]], dict[str, str]]:
        """Writes the label maps to learn from; the datalist's entries, and why an image is left out."""
        entries, left_out = [], {}
        for image in sorted(datastore.list_images()):
            info = datastore.get_image_info(image)
            found = saved_segmentation(image, datastore, [DefaultLabelTag.FINAL])
            if found is None:
                continue
            if info.get("synthetic") and not synthetic:
                left_out[image] = "it is synthetic"
                continue
            path, label = Path(datastore.get_image_uri(image)), folder / "labels" / f"{image}.nii.gz"
            try:
                scan = read_scan(path)
                check_scan(scan, self.air_below)
                write_label_map(*found, scan, self.labels, label)
            except InputError as error:
                left_out[image] = str(error).rstrip(".")
                continue
            patient = str(info.get("PatientID") or _origin(image, datastore))
            entries.append({"image": str(path), "label": f"labels/{label.name}", "case": image, "patient": patient})
        return entries, left_out


def _origin(image: str, datastore: Datastore) -> str:
    """The image that a painted scan, painted once or several times, was made of."""
    while source := datastore.get_image_info(image).get("source"):
        image = source
    return image


def _reasons(left_out: Mapping[str, str]) -> str:
    return "".join(f", not {image} ({reason})" for image, reason in left_out.items())
