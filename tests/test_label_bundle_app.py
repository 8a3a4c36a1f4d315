"""The bundles in MONAI Label's stock app for bundles: linked into its folder, offline, one click."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, read_configs, save_nifti, stored_of
from label_server import VENV, Client, label_python, served
from label_study import GRIDS, middle
from small_chest import chest

from custom_components.errors import find_input_error

RADII = {"oblique": (6,), "anisotropic": (4, 7)}
STOCK = VENV / "monailabel" / "sample-apps" / "monaibundle"


@pytest.mark.integration
def test_click_in_the_stock_app_becomes_a_mask_on_the_scans_grid(tmp_path: Path):
    label_python()  # makes the environment, or skips
    app = tmp_path / "app"
    shutil.copytree(STOCK, app)
    (app / "model").mkdir(exist_ok=True)
    (app / "model" / "diffmask").symlink_to(BUNDLES / "diffmask")
    for name, (affine, shape) in GRIDS.items():
        save_nifti(tmp_path / "studies" / f"{name}.nii.gz", chest(shape), affine)
    conf = [("models", "diffmask"), ("zoo_source", "ngc")]
    with served(app, tmp_path / "studies", tmp_path, conf) as address:
        client = Client(address, tmp_path / "received")
        assert client("info")["models"]["diffmask"]["config"]["radius"] == 8
        for name, (affine, shape) in GRIDS.items():
            volumes = []
            for radius in RADII[name]:
                file, _ = client.infer("diffmask", name, foreground=[middle(name)], radius=radius)
                image, mask = nib.load(file), stored_of(file)
                assert image.shape == shape
                np.testing.assert_allclose(image.affine, affine, atol=1e-4)
                assert set(np.unique(mask)) == {0, 1}
                offset = affine[:3, :3] @ (np.argwhere(mask).mean(axis=0) - middle(name))
                assert np.linalg.norm(offset) < radius
                volumes.append(mask.sum())
            assert volumes == sorted(volumes)
        client.close()


@pytest.mark.parametrize("bundle", ["lefusion_lidc", "lefusion_emidec", "diffmask"])
def test_training_takes_a_list_of_cases_in_place_of_a_data_set(bundle: str):
    """That app puts its labelled images into the config; without them, and without a data set, nothing is trained."""
    parser = read_configs(BUNDLES / bundle, "train")
    parser["dataset_dir"] = "nowhere"
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("training#1")
    assert "dataset_dir nowhere does not exist" in str(find_input_error(error.value))
    parser["train"]["dataset"]["data"] = [{"image": "a.nii.gz", "label": "b.nii.gz"}]
    parser.parse(reset=True)
    assert parser.get_parsed_content("training#1") is None
