"""The MONAI Label app: the bundles, ready for 3D Slicer, OHIF and anything else that speaks MONAI Label's REST API."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from lib.activelearning import NewestSynthetic
from lib.infers import DrawMask, LesionTask, PaintLesions
from lib.loaded_bundle import LoadedBundle
from lib.samples import find_image
from lib.trainers import TrainBundle
from lib.weights import WeightsFolder
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

from custom_components import __version__
from custom_components.bundle_configs import bundle_root
from custom_components.errors import InputError, find_input_error, first_line

logger = logging.getLogger(__name__)

BUNDLES = ("diffmask", "lefusion_lidc", "lefusion_emidec")


class LeFusionLabelApp(MONAILabelApp):
    """Draws lesion masks by click, paints lesions where a segmentation says, and trains on what was submitted.

    Args:
        app_dir: this folder.
        studies: folder of the images, or address of a DICOM server.
        conf: ``models``, names or folders of the bundles to serve, separated by commas; ``weights``, the folder for
            trained weights (``model`` in this folder by default).
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        wanted = [name.strip() for name in conf.get("models", ",".join(BUNDLES)).split(",") if name.strip()]
        self.bundles = {root.name: root for root in map(bundle_root, wanted)}
        folder = Path(conf.get("weights", Path(app_dir) / "model"))
        self.weights = {name: WeightsFolder(folder / name) for name in self.bundles}
        self.lock = threading.Lock()
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name=f"LeFusion {__version__}",
            description="Paints realistic lesions into healthy scans. Research only, not for clinical use.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, LesionTask]:
        tasks: dict[str, LesionTask] = {}
        for name, root in self.bundles.items():
            bundle = LoadedBundle(root, self.weights[name])
            draws = "spheres" in bundle.config.parser
            tasks[name] = DrawMask(bundle) if draws else PaintLesions(root, self.weights[name])
        return tasks

    def init_trainers(self) -> dict[str, TrainBundle]:
        painting = {name: task for name, task in self._infers.items() if isinstance(task, PaintLesions)}
        return {
            name: TrainBundle(task.bundle.config, task.classes, self.weights[name]) for name, task in painting.items()
        }

    def init_strategies(self) -> dict[str, Strategy]:
        return {"newest": NewestSynthetic(), "first": First(), "random": Random()}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Draws or paints; one request at a time, since a bundle's network serves them all.

        Raises:
            HTTPException: 400 with one sentence for whatever is wrong with the request.
        """
        datastore = datastore or self.datastore()
        names: dict[str, str] = {}
        try:
            task = self._infers.get(str(request.get("model")))
            if task is None:
                raise InputError(f"there is no model {request.get('model')!r}; known: {', '.join(self._infers)}.")
            image, path = find_image(request.get("image"), datastore)
            with self.lock, tempfile.TemporaryDirectory() as folder:
                names = _names(request, image, path, folder)
                file, params = task.answer(request, image, path, datastore, Path(folder))
        except Exception as error:
            raise _as_answer(error, names) from error
        return {"label": str(file), "tag": "", "file": str(file), "params": params}

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Trains a bundle on the submitted labels.

        Raises:
            HTTPException: 400 with one sentence for whatever is wrong with the request.
        """
        try:
            trainer = self._trainers.get(str(request.get("model")))
            if trainer is None:
                raise InputError(f"{request.get('model')!r} cannot be trained; known: {', '.join(self._trainers)}.")
            return trainer(request, self.datastore())
        except Exception as error:
            raise _as_answer(error, {}) from error

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The image to look at next.

        Raises:
            HTTPException: 400 for an unknown strategy.
        """
        try:
            return super().next_sample(request)
        except MONAILabelException as error:
            raise HTTPException(400, f"{error.msg}.") from error


def _names(request: Mapping[str, Any], image: str, path: Path, folder: str) -> dict[str, str]:
    """What a client calls the files of a request: the image by its name, the mask that it sent not at all."""
    names = {str(path): image, f" {Path(folder) / 'mask.nii.gz'}": ""}
    label = str(request.get("label", ""))
    return {**names, f" {label}": ""} if Path(label).is_file() else names


def _as_answer(error: Exception, names: Mapping[str, str]) -> HTTPException:
    """What a client is told: one sentence, files on this machine called by the ``names`` it knows."""
    cause = find_input_error(error)
    if cause is None:
        logger.exception("request failed")
        return HTTPException(500, f"the server failed: {type(error).__name__}: {first_line(error)}")
    sentence = str(cause)
    for path, name in names.items():
        sentence = sentence.replace(path, name)
    return HTTPException(400, sentence)
