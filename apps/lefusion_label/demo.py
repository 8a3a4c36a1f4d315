"""Starts the server on a study made of the bundles' samples: a chest CT without nodules and a made-up heart."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import fire
from monailabel.datastore.local import LocalDatastore

from custom_components.bundle_configs import BUNDLES
from custom_components.datasets import list_cases
from custom_components.errors import InputError, install_excepthook
from custom_components.files import check_writable
from custom_components.synthesis.engines import BundleEngine

APP = Path(__file__).resolve().parent
SAMPLES = {"chest_ct": "lefusion_lidc", "heart_mr": "lefusion_emidec"}  # name -> the bundle that brings it

NEXT = """
The study {study} holds {images}.
3D Slicer: module MONAI Label, server {address}, then "Next Sample"; docs/monai_label.md goes on from there.
Without a client: paint nodules where the mask that comes with the CT says, and fetch the painted scan:
  curl -s -o painted.nii.gz -F 'params={{"texture": "solid", "result": "image"}}' \\
      '{address}/infer/lefusion_lidc?image=chest_ct&output=image'
Ctrl+C stops the server.
"""


def make_study(study: str | Path) -> Path:
    """A study of the bundles' samples with their label maps; one that is there already is left as it is.

    Returns:
        Its folder.

    Raises:
        InputError: where it cannot be made there.
    """
    folder = Path(str(study)).absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"study {folder} is a file, not a folder.")
    check_writable(folder)
    datastore = LocalDatastore(str(folder))
    for name, bundle in SAMPLES.items():
        if name in datastore.list_images():
            continue
        case = list_cases(BUNDLES / bundle / "sample")[0]
        labels = BundleEngine(bundle).labels
        names = {**labels.anatomy, **labels.classes}
        datastore.add_image(name, case["image"], {"bundle": bundle})
        info = {"params": {"label_names": names}, "label_info": [{"name": n, "idx": v} for n, v in names.items()]}
        datastore.save_label(name, case["label"], "original", info)
    return folder


def demo(study: str = "label_demo", host: str = "127.0.0.1", port: int = 8000) -> None:
    """Make the study and start MONAI Label on it.

    Args:
        study: folder of the study; it is made where it is not there yet.
        host: address to listen at; 0.0.0.0 lets other machines in.
        port: port to listen at.
    """
    folder = make_study(study)
    images = sorted(json.loads((folder / "datastore_v2.json").read_text())["objects"])
    print(NEXT.format(study=folder, images=", ".join(images), address=f"http://{host}:{port}"), flush=True)
    command = ["-m", "monailabel.main", "start_server", "--app", str(APP), "--studies", str(folder)]
    os.execv(sys.executable, [sys.executable, *command, "--host", host, "--port", str(port)])


if __name__ == "__main__":
    install_excepthook()
    fire.Fire(demo)
