"""The MONAI Label app under wrong requests, two clients at once, and training."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, save_nifti, stored_of
from label_server import Client, Refused, environment, label_python
from label_study import APP, GRIDS, ball, middle, save_mask
from small_chest import balls, chest
from thick_stacks import affine_of, ring

pytestmark = pytest.mark.integration

CLICK = [middle("oblique")]
AFFINE, SHAPE = GRIDS["oblique"]
BALL = ball("oblique", middle("oblique"), 4)
BLOCK = np.ones(SHAPE, bool)

# model, image, options, what is sent as mask (with the grid's affine), words of the answer
WRONG = {
    "unknown model": ("nothing", "oblique", {}, None, "no model 'nothing'"),
    "unknown image": ("diffmask", "nobody", {"foreground": CLICK}, None, "no image 'nobody'"),
    "no click": ("diffmask", "oblique", {"foreground": []}, None, "no click"),
    "click of two numbers": ("diffmask", "oblique", {"foreground": [[1, 2]]}, None, "three voxel indices"),
    "click outside": ("diffmask", "oblique", {"foreground": [[20, 18, 24]]}, None, "outside the scan"),
    "background click": ("diffmask", "oblique", {"foreground": CLICK, "background": CLICK}, None, "background"),
    "radius of 0": ("diffmask", "oblique", {"foreground": CLICK, "radius": 0}, None, "above 0 mm"),
    "radius below 0": ("diffmask", "oblique", {"foreground": CLICK, "radius": "-3"}, None, "above 0 mm"),
    "radius that is none": ("diffmask", "oblique", {"foreground": CLICK, "radius": "wide"}, None, "above 0 mm"),
    "large radius": ("diffmask", "oblique", {"foreground": CLICK, "radius": 70}, None, "more than the crop holds"),
    "two lesions in one place": ("diffmask", "oblique", {"foreground": CLICK * 2}, None, "overlap"),
    "no mask": ("lefusion_lidc", "oblique", {}, None, "no mask"),
    "empty mask": ("lefusion_lidc", "oblique", {}, (BALL * 0, AFFINE), "is empty"),
    "mask of another shape": ("lefusion_lidc", "oblique", {}, (BALL[1:], AFFINE), "has shape"),
    "mask on another grid": ("lefusion_lidc", "oblique", {}, (BALL, np.eye(4)), "another grid"),
    "lesion too large": ("lefusion_lidc", "large", {}, (np.ones((80, 30, 20)), np.eye(4)), "larger than the crop"),
    "unknown texture": ("lefusion_lidc", "oblique", {"texture": "wood"}, (BALL, AFFINE), "unknown texture 'wood'"),
    "code as texture": ("lefusion_lidc", "oblique", {"texture": "$print(1)"}, (BALL, AFFINE), "unknown texture"),
    "short list of textures": ("lefusion_lidc", "oblique", {"textures": ["solid"] * 2}, (BALL, AFFINE), "2 requests"),
    "no steps": ("lefusion_lidc", "oblique", {"steps": 0}, (BALL, AFFINE), "from 1 to 300"),
    "half a step": ("lefusion_lidc", "oblique", {"steps": 1.5}, (BALL, AFFINE), "whole number"),
    "seed that is none": ("lefusion_lidc", "oblique", {"seed": "x"}, (BALL, AFFINE), "seed must be"),
    "unknown weights": ("lefusion_lidc", "oblique", {"weights": "../mine"}, (BALL, AFFINE), "weights must be one of"),
    "unknown result": ("lefusion_lidc", "oblique", {"result": "film"}, (BALL, AFFINE), "mask, image"),
    "no CT": ("lefusion_lidc", "heart", {}, (ring(), affine_of()), "Hounsfield"),
    "other folder as tag": (
        "diffmask",
        "oblique",
        {"foreground": CLICK, "save_label": True, "label_tag": "../../elsewhere"},
        None,
        "label_tag must be one of original, final",
    ),
    "names that are no list": ("lefusion_lidc", "oblique", {"label_info": "lesion"}, (BALL, AFFINE), "must be a list"),
    "segment without a name": (
        "lefusion_emidec",
        "heart",
        {"label_info": [{"name": name, "id": n} for n, name in enumerate(["cavity", "myocardium", "mi"], start=1)]},
        (ring(), affine_of()),
        "does not name the segment 4",
    ),
    "unknown segment": (
        "lefusion_emidec",
        "heart",
        {"label_info": [{"name": "atrium", "id": 1}, {"name": "mi", "id": 3}]},
        (ring(), affine_of()),
        "'atrium' is none of",
    ),
    "heart without lesion": ("lefusion_emidec", "heart", {}, (ring(lesion=False), affine_of()), "holds no lesion"),
    "unknown value": ("lefusion_emidec", "heart", {}, (ring() * 2, affine_of()), "must hold"),
}


@pytest.fixture(scope="module", autouse=True)
def large(label_app) -> None:
    """A chest that holds more than a crop."""
    save_nifti(label_app.studies / "large.nii.gz", chest((80, 30, 20)), np.eye(4))
    deadline = time.monotonic() + 20
    while "large" not in label_app.client("datastore")["objects"] and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_request_is_answered_by_one_sentence(label_app, tmp_path, wrong):
    model, image, options, mask, words = WRONG[wrong]
    file = None if mask is None else save_mask(tmp_path, *mask)
    with pytest.raises(Refused) as refusal:
        label_app.client.infer(model, image, file, **options)
    status, answer = re.fullmatch(r"Status: (\d+); Response: (.*)", str(refusal.value), re.DOTALL).groups()
    sentence = json.loads(answer)["detail"]
    assert status == "400", sentence
    assert words in sentence
    assert "\n" not in sentence and "tmp" not in sentence and ".nii" not in sentence  # of the server's own files


def test_file_of_the_server_that_it_did_not_receive_is_no_image(label_app):
    image = str(BUNDLES / "lefusion_lidc" / "sample" / "ct.nii.gz")
    with pytest.raises(Refused, match="the datastore has no image") as refusal:
        label_app.client("infer", "diffmask", "oblique", {"foreground": CLICK, "image": image})
    assert "Status: 400" in str(refusal.value)


def test_unknown_strategy_is_answered_by_one_sentence(label_app):
    with pytest.raises(Refused, match="no such strategy 'best'") as refusal:
        label_app.client("next_sample", "best", {})
    assert "Status: 400" in str(refusal.value)


def test_second_client_waits_and_gets_its_own_answer(label_app, tmp_path):
    other = Client(label_app.address, tmp_path / "received")
    files = []
    for centre in ((12, 18, 12), (28, 18, 12)):
        files.append(save_mask(tmp_path / str(centre[0]), ball("oblique", centre, 4), AFFINE))
    requests = [
        ("infer", "lefusion_lidc", "oblique", {"steps": 2, "seed": n, "result": "image"}, files[n]) for n in (0, 1)
    ]
    alone = [stored_of(label_app.client(*request)[0]) for request in requests]
    for client, request in zip((label_app.client, other), requests, strict=True):
        client.send(*request)
    together = [client.receive() for client in (label_app.client, other)]
    other.close()
    for (file, _), wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(stored_of(file), wanted)
    assert together[0][1]["sample"] != together[1][1]["sample"]


def run_training(client: Client, model: str, **options: object) -> dict:
    """Starts a training, and returns its last state."""
    client("train_start", model, options)
    deadline = time.monotonic() + 300
    while (state := client("train_status"))["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline, state
        time.sleep(0.3)
    return state


def submit(label_app, folder: Path, name: str) -> None:
    """A chest of a new patient with a segmentation that a reader has submitted."""
    shape = (32, 32, 24)
    image = save_nifti(folder / f"{name}.nii.gz", chest(shape))
    label = save_nifti(folder / "label.nii.gz", balls(shape, [((16, 16, 12), 5)]).astype(np.uint8))
    label_app.client("upload_image", image, name)
    label_app.client("save_label", name, label, "", {"label_info": [{"name": "lesion", "idx": 1}]})


def test_training_on_submitted_labels_makes_weights_to_paint_with(label_app, tmp_path):
    submit(label_app, tmp_path, "first_patient")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{label_app.address}/train/lefusion_lidc?run_sync=true", data=b"")
    assert refusal.value.code == 400
    assert b"submitted labels of two patients or more" in refusal.value.read()

    submit(label_app, tmp_path, "second_patient")
    heart = {"label_info": [{"name": name, "idx": n} for n, name in enumerate(["cavity", "myocardium"], start=1)]}
    label_app.client("save_label", "heart", save_mask(tmp_path, ring(lesion=False), affine_of()), "final", heart)
    mask = save_mask(tmp_path, BALL, AFFINE)
    own, told = label_app.client.infer("lefusion_lidc", "oblique", mask, steps=1, result="image", tag="final")
    own = stored_of(own)
    state = run_training(label_app.client, "lefusion_lidc", max_epochs=1, settings="cpu", name="mine")
    assert state["status"] == "DONE", state["details"]
    datalist = label_app.weights / "lefusion_lidc" / "runs" / "mine" / "data" / "datalist.json"
    cases = {entry["case"] for entry in json.loads(datalist.read_text())}
    # Nothing synthetic, though that sample's label counts as final, and no heart.
    assert cases == {"first_patient", "second_patient"}
    assert told["sample"] not in cases

    offered = label_app.client("info")["models"]["lefusion_lidc"]["config"]["weights"]
    assert offered == ["bundle", "mine"]
    options = {"steps": 1, "result": "image", "weights": "mine"}
    trained, told = label_app.client.infer("lefusion_lidc", "oblique", mask, **options)
    trained = stored_of(trained)
    assert told["sidecar"]["weights"]["file"] == "mine.pt"
    assert (trained[BALL] != own[BALL]).any()
    np.testing.assert_array_equal(trained[~BALL], own[~BALL])


FAILING = """
import sys
from lib.trainers import train_bundle
from lib.weights import WeightsFolder
from monailabel.datastore.local import LocalDatastore
from custom_components.synthesis.engines import BundleEngine

def run(*words, output_dir, **settings):
    raise RuntimeError("out of memory")

train_bundle.run = run
engine, folder = BundleEngine("lefusion_lidc"), WeightsFolder(sys.argv[1])
trainer = train_bundle.TrainBundle(engine, engine.labels, folder)
store = LocalDatastore(sys.argv[2])
for name in ("a", "b"):
    store.add_image(name, sys.argv[3], {})
    store.save_label(name, sys.argv[4], "final", {})
for attempt in range(2):
    try:
        trainer({"name": "mine"}, store)
    except RuntimeError as error:
        print(error)
"""


def test_name_of_a_training_that_failed_before_it_learnt_is_free_again(label_app, tmp_path):
    sample = BUNDLES / "lefusion_lidc" / "sample"
    command = [label_python(), "-c", FAILING, tmp_path / "weights", tmp_path / "study"]
    command += [sample / "ct.nii.gz", sample / "mask.nii.gz"]
    process = subprocess.run(command, cwd=APP, env=environment(), capture_output=True, text=True)
    assert process.stdout.splitlines()[-2:] == ["out of memory"] * 2, process.stderr


def test_the_file_that_comes_back_is_a_scan_of_its_own(label_app, tmp_path):
    """A viewer opens it without the datastore."""
    mask = save_mask(tmp_path, BALL, AFFINE)
    file, _ = label_app.client.infer("lefusion_lidc", "oblique", mask, steps=1, result="image")
    image = nib.load(file)
    assert image.header["descrip"].tobytes().startswith(b"SYNTHETIC")
