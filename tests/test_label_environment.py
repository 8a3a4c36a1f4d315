"""What surrounds the MONAI Label app: the study of its demo, and the stand-in for torchvision."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from label_server import environment, label_python
from label_study import APP
from PIL import Image


@pytest.fixture(scope="module")
def stand_in():
    spec = importlib.util.spec_from_file_location("stand_in", APP / "stand_ins" / "torchvision" / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.integration
def test_demo_study_holds_both_samples_with_named_labels_and_no_file_becomes_one(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    script = "import sys, demo; demo.make_study(sys.argv[1]); demo.make_study(sys.argv[1]); demo.demo(sys.argv[2])"
    command = [str(label_python()), "-c", f"import demo; demo.install_excepthook(); {script}"]
    command += [str(tmp_path / "study"), str(tmp_path / "file")]
    process = subprocess.run(command, cwd=APP, env=environment(), capture_output=True, text=True)
    assert process.stderr.splitlines()[-1] == f"error: study {tmp_path / 'file'} is a file, not a folder."
    objects = json.loads((tmp_path / "study" / "datastore_v2.json").read_text())["objects"]
    labels = {name: entry["labels"]["original"]["info"]["params"]["label_names"] for name, entry in objects.items()}
    assert labels == {"chest_ct": {"lesion": 1}, "heart_mr": {"cavity": 1, "myocardium": 2, "mi": 3, "pmo": 4}}


def test_grid_lays_images_side_by_side_between_borders(stand_in):
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 4)
    grid = stand_in.make_grid(images, nrow=2, padding=1, pad_value=9)
    assert grid.shape == (3, 7, 11)
    assert [float(grid[0, 1, 1]), float(grid[0, 1, 6]), float(grid[0, 4, 1])] == [0, 1, 2]
    assert float(grid[0, 0, 0]) == float(grid[0, 4, 6]) == 9  # the border, and where a fourth image would be


def test_single_image_stays_as_it_is_but_for_its_range(stand_in):
    grid = stand_in.make_grid(torch.tensor([[[2.0, 4.0, 6.0]]]), normalize=True)
    np.testing.assert_allclose(grid[:, 0], [[0, 0.5, 1]] * 3)


def test_picture_holds_the_image(stand_in, tmp_path):
    stand_in.save_image(torch.tensor([[[0.0, 0.5], [1.0, 2.0]]]), tmp_path / "picture.png")
    pixels = np.asarray(Image.open(tmp_path / "picture.png"))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 128], [255, 255]])
