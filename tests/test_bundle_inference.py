"""The inference bundle, run whole with a tiny network and by its commands: the files and the record it leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from bundle_runs import (
    RAS,
    TINY_NETWORK,
    Output,
    options,
    same_excepthook,  # noqa: F401 (a fixture)
    stored_of,
)
from lung_runs import (
    BUNDLE,
    TINY,
    case_fixture,  # noqa: F401 (a fixture)
    commands_fixture,  # noqa: F401 (a fixture)
    paint_fixture,  # noqa: F401 (a fixture)
    save_tiny_weights,
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, balls, chest


@pytest.fixture(scope="module")
def basic(paint, case, tmp_path_factory) -> Output:
    """The two lesions of the plain case, one solid, one of random texture, with the picture."""
    return paint(tmp_path_factory.mktemp("basic"), **case, texture=["solid", "random"], seed=3, panel=True)


# ------------------------------------------------------------------------------------------------ the files


def test_a_case_gives_scan_mask_picture_and_record_and_nothing_else(basic):
    assert basic.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz", "case_panel.png"]


def test_picture_shows_four_columns_of_three_planes_a_lesion(basic):
    picture = matplotlib.image.imread(basic.folder / "case_panel.png")
    height, width = picture.shape[:2]
    assert height / width == pytest.approx(2 * 7.6 / 10, rel=0.01), "two lesions"
    gray = picture[..., :3].mean(axis=2)
    for rows in np.array_split(gray, 6):
        for part in np.array_split(rows, 4, axis=1):
            assert part.std() > 0.02, "an empty field"


def test_picture_can_be_left_out(paint, case, tmp_path):
    assert "case_panel.png" not in paint(tmp_path, **case, texture="solid", panel=False).files()


# ------------------------------------------------------------------------------------------------- the record


def test_record_names_its_sources_by_hash_and_says_that_it_is_synthetic(basic, case, weights):
    record = basic.sidecar
    for part, path in (("source", case["image"]), ("mask", case["mask"]), ("weights", weights)):
        assert record[part]["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert record["bundle"] == {"name": "lefusion_lidc", "version": metadata["version"]}
    assert record["synthetic"] is True
    assert record["digitalSourceType"] == "compositeWithTrainedAlgorithmicMedia"
    assert "not for clinical use" in record["intended_use"]
    assert record["max_abs_difference_outside_mask"] == 0
    assert np.array_equal(record["affine"], RAS)
    assert str(Path(case["image"]).parent) not in json.dumps(record), "no folder of the user"


def test_record_holds_the_settings_of_the_run(basic):
    settings = basic.sidecar["settings"]
    expected = {
        "texture": ["solid", "random"],
        "seed": 3,
        "num_inference_steps": 2,
        "eta": 1.0,
        "jump_length": 1,
        "jump_n_sample": 1,
        "guidance_scale": 1.0,
        "context": "clean",
        "prediction_type": "v_prediction",
        "num_train_timesteps": 300,
        "spatial_size": [16, 16, 16],
        "spacing_mm": [1.0, 1.0, 1.0],
        "hu_window": [-1000, 400],
    }
    assert {key: settings[key] for key in expected} == expected


def test_record_names_the_sampler(basic):
    assert "DDIM" in str(basic.sidecar["settings"]["sampler"])


def test_record_measures_every_lesion(basic):
    for number, (lesion, entry) in enumerate(zip(LESIONS, basic.sidecar["lesions"], strict=True), start=1):
        spec, mask = entry["spec"], balls(lesions=[lesion])
        where = np.argwhere(mask)
        low, high = where.min(axis=0), where.max(axis=0) + 1
        assert (spec["case"], spec["lesion"], spec["voxels"]) == ("case", number, mask.sum())
        assert spec["box"] == [[a, b] for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        assert spec["centre_mm"] == pytest.approx((RAS @ [*(low + high - 1) / 2, 1])[:3])
        assert spec["volume_mm3"] == pytest.approx(mask.sum())
        assert spec["radius_mm"] == pytest.approx((0.75 * mask.sum() / np.pi) ** (1 / 3))
        painted = basic.stored[mask].astype(float)
        assert entry["mean_before"] == pytest.approx(chest()[mask].mean(), abs=0.01)
        assert entry["mean_painted"] == pytest.approx(painted.mean(), abs=0.01)
        assert entry["std_painted"] == pytest.approx(painted.std(), abs=0.01)
        counts = np.histogram((painted + 1000) / 700 - 1, bins=16, range=(-1, 1))[0] / mask.sum()
        # Stored voxels are rounded to whole HU: few of them change their bin.
        assert np.abs(np.array(entry["achieved_histogram"]) - counts).sum() < 0.05
        distance = np.abs(np.cumsum(np.array(entry["achieved_histogram"]) - spec["histogram"])).sum() * 2 / 16
        assert entry["histogram_distance"] == pytest.approx(distance, abs=1e-4)
        assert entry["crop_size"] == [16, 16, 16]
        crop_centre = np.array(entry["crop_affine"]) @ [8, 8, 8, 1]
        assert np.abs(crop_centre[:3] - spec["centre_mm"]).max() <= 0.5


def test_replayed_record_gives_the_same_voxels_whatever_else_is_asked(paint, case, basic, tmp_path):
    replay = basic.folder / "case_lefusion.json"
    again = paint(tmp_path / "again", **case, replay=str(replay), seed=99, texture="ground_glass")
    assert again.stored.tobytes() == basic.stored.tobytes()
    assert again.specs == basic.specs


# -------------------------------------------------------------------------------------- the commands themselves


@pytest.mark.integration
def test_monai_s_command_paints_what_this_process_painted(repo_root, basic, case, weights, tmp_path):
    config = Path("bundles") / "lefusion_lidc" / "configs" / "inference.json"
    settings = {**TINY, "bundle_root": "bundles/lefusion_lidc", "weights": weights, "output_dir": tmp_path, "seed": 3}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    command += options(**settings, **case, texture=["solid", "random"])
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Output(tmp_path).files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz"]
    assert np.abs(Output(tmp_path).stored.astype(int) - basic.stored).max() <= 1


@pytest.mark.integration
def test_generate_paints_from_any_folder(commands, basic, case, weights, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    for path in case.values():
        shutil.copy(path, elsewhere)
    settings = {key: value for key, value in TINY.items() if key != "bundle_root"}
    command = [sys.executable, "-m", "lefusion_scripts.cli", "generate", "case.nii.gz", "label.nii.gz", "out"]
    command += options(texture="[solid,random]", seed=3, weights=weights, **settings)
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    output = Output(elsewhere / "out")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["case.nii.gz", "label.nii.gz", "out"]
    assert np.abs(output.stored.astype(int) - basic.stored).max() <= 1


def test_demo_paints_the_sample_in_every_texture_and_draws_the_picture(commands, tmp_path):
    """The demo on a copy of the bundle whose network is tiny."""
    from lefusion_scripts.demo import demo

    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("models", "outputs"))
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config.update(num_inference_steps=1, spatial_size=[32, 32, 32], device="cpu", panel=False)
    config["network_def"].update(TINY_NETWORK)
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    (bundle / "models").mkdir()
    save_tiny_weights(bundle / "models" / "model.pt")
    demo(str(tmp_path / "out"), str(bundle))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ground_glass",
        "part_solid",
        "solid",
        "textures.png",
    ]
    for texture in ("ground_glass", "part_solid", "solid"):
        output = Output(tmp_path / "out" / texture, "sample")
        assert {spec["texture"] for spec in output.specs} == {texture}
        before = stored_of(BUNDLE / "sample" / "ct.nii.gz")
        mask = stored_of(BUNDLE / "sample" / "mask.nii.gz") > 0
        assert np.array_equal(output.stored[~mask], before[~mask])
