"""What the app's inference tasks share."""

from __future__ import annotations

import json
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..loaded_bundle import LoadedBundle

__all__ = ["MAX_SEED", "TAGS", "LesionTask", "keep_file"]

MAX_SEED = 2**31 - 1
TAGS = (DefaultLabelTag.ORIGINAL.value, DefaultLabelTag.FINAL.value)  # of a label that is saved


class LesionTask(InferTask):
    """Answers requests with a bundle.

    Args:
        bundle: the bundle.
        kind: which section of a client offers the task.
        labels: name -> value in the label maps it returns.
    """

    def __init__(self, bundle: LoadedBundle, kind: InferType, labels: Mapping[str, int]) -> None:
        metadata = json.loads((bundle.root / "configs" / "metadata.json").read_text())
        super().__init__(type=kind, labels=dict(labels), dimension=3, description=metadata["description"])
        self.bundle, self.version = bundle, metadata["version"]

    def info(self) -> dict[str, Any]:
        return {**super().info(), "version": self.version}

    def is_valid(self) -> bool:
        return True

    def get_path(self, validate: bool = True) -> str:
        """The bundle's own weights."""
        return str(self.bundle.config.value("weights"))

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict]:
        raise NotImplementedError("the app calls answer, which knows the datastore")

    @abstractmethod
    def answer(
        self, request: Mapping[str, Any], image: str, path: Path, datastore: Datastore, folder: Path
    ) -> tuple[Path, dict[str, Any]]:
        """Carries out a request.

        Args:
            request: of the client.
            image: the image's name.
            path: its file or DICOM folder.
            datastore: where it comes from, and where a new sample goes.
            folder: for files that nobody needs afterwards.

        Returns:
            A file that the server may remove once it is sent, and what is told beside it.

        Raises:
            InputError: for whatever is wrong with the request.
        """

    @property
    def max_steps(self) -> int:
        """The most steps that a sampler can take."""
        return int(self.bundle.config.value("num_train_timesteps"))

    @property
    def steps(self) -> int:
        """The steps that it takes by default."""
        return int(self.bundle.config.value("num_inference_steps"))


def keep_file(source: Path) -> Path:
    """Moves a result out of the folder that goes."""
    with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as stream:
        kept = Path(stream.name)
    shutil.move(source, kept)
    return kept
