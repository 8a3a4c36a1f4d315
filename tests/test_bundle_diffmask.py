"""The mask bundle, run whole with a tiny network: what it draws, where, and how a mask is used."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import save_nifti, stored_of
from lung_runs import run_workflow
from mask_runs import (
    AFFINE,
    BUNDLE,
    INFERENCE,
    SHAPE,
    TINY,
    mm,
    organ_file,
    record,
    trained_fixture,  # noqa: F401 (a fixture)
    weights_of,
)
from published_format import save_published
from small_chest import affine_of, chest

from custom_components.errors import InputError, find_input_error
from custom_components.networks import FactorisedUNet
from custom_components.specs import find_lesions
from lefusion_scripts.import_weights import import_weights
from lefusion_scripts.run import draw_masks

# --------------------------------------------------------------------------------------------------- what is drawn


def test_masks_lie_where_the_spheres_are_on_the_scan_s_own_grid(trained, tmp_path):
    scan = save_nifti(tmp_path / "ct.nii.gz", chest(SHAPE), AFFINE)
    organ = organ_file(tmp_path)
    spheres = [[*mm((11, 12, 6)), 5.0], [*mm((24, 20, 5)), 4.0]]
    run_workflow(
        INFERENCE, **trained, image=str(scan), organ=str(organ), spheres=spheres, output_dir=str(tmp_path / "o")
    )
    mask = nib.load(tmp_path / "o" / "ct_mask_1.nii.gz")
    np.testing.assert_allclose(mask.affine, nib.load(scan).affine, atol=1e-6)
    values = stored_of(tmp_path / "o" / "ct_mask_1.nii.gz")
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 1}
    assert len(find_lesions(values > 0, AFFINE)[1]) == 2
    for entry, (*centre, radius) in zip(record(tmp_path / "o", "ct")["masks"], spheres, strict=True):
        assert np.linalg.norm(np.subtract(entry["drawn_centre_mm"], centre)) < 1.5
        assert abs(entry["drawn_radius_mm"] - radius) < 1.5


def test_voxel_coordinates_mean_the_same_spheres(trained, tmp_path):
    organ = organ_file(tmp_path)
    common = {**trained, "organ": str(organ)}
    run_workflow(INFERENCE, **common, spheres=[[*mm((11, 12, 6)), 5.0]], output_dir=str(tmp_path / "mm"))
    run_workflow(
        INFERENCE, **common, spheres=[[11, 12, 6, 5.0]], coordinates="voxel", output_dir=str(tmp_path / "voxel")
    )
    first, second = (stored_of(tmp_path / name / "lung_mask_1.nii.gz") for name in ("mm", "voxel"))
    assert np.array_equal(first, second)


def test_no_voxel_lies_outside_the_organ_even_where_the_sphere_does(trained, tmp_path):
    organ = organ_file(tmp_path)
    run_workflow(
        INFERENCE, **trained, organ=str(organ), spheres=[[*mm((4, 12, 6)), 6.0]], output_dir=str(tmp_path / "o")
    )
    values = stored_of(tmp_path / "o" / "lung_mask_1.nii.gz")
    assert values.any()
    assert not values[stored_of(organ) == 0].any()
    assert record(tmp_path / "o", "lung")["voxels_outside_organ"] == 0


def test_bare_grid_needs_no_file(trained, tmp_path):
    run_workflow(INFERENCE, **trained, grid=[64, 64, 32], spheres=[[0, 0, 0, 9]], output_dir=str(tmp_path / "o"))
    values = stored_of(tmp_path / "o" / "grid_mask_1.nii.gz")
    assert values.shape == (64, 64, 32)
    assert values[32, 32, 16] == 1
    (entry,) = record(tmp_path / "o", "grid")["masks"]
    np.testing.assert_allclose(entry["drawn_centre_mm"], [0, 0, 0], atol=0.5)
    assert abs(entry["drawn_radius_mm"] - 9) < 0.5


def test_without_any_argument_the_sample_organ_is_used(trained, tmp_path):
    run_workflow(INFERENCE, **trained, output_dir=str(tmp_path / "o"))
    entries = record(tmp_path / "o", "sample")["masks"]
    assert len(entries) == 3
    assert all(entry["voxels"] > 0 for entry in entries)
    organ = stored_of(BUNDLE / "sample" / "organ.nii.gz")
    assert not stored_of(tmp_path / "o" / "sample_mask_1.nii.gz")[organ == 0].any()


def test_samples_of_a_sphere_differ_and_a_sidecar_replays_them(tmp_path):
    settings = {**TINY, "weights": str(weights_of(tmp_path / "w.pt")), "grid": [40, 40, 32], "smoothing": [0, 0, 0]}
    run_workflow(INFERENCE, **settings, spheres=[[0, 0, 0, 8]], samples=2, output_dir=str(tmp_path / "a"))
    one, two = (stored_of(tmp_path / "a" / f"grid_mask_{k}.nii.gz") for k in (1, 2))
    assert not np.array_equal(one, two)
    run_workflow(
        INFERENCE,
        **settings,
        replay=str(tmp_path / "a" / "grid_masks.json"),
        batch_size=1,
        output_dir=str(tmp_path / "b"),
    )
    for name in ("grid_mask_1.nii.gz", "grid_mask_2.nii.gz"):
        assert np.array_equal(stored_of(tmp_path / "a" / name), stored_of(tmp_path / "b" / name))


def test_panel_and_sidecar_tell_what_was_done(trained, tmp_path):
    settings = {**trained, "panel": True}
    run_workflow(INFERENCE, **settings, organ=str(organ_file(tmp_path)), output_dir=str(tmp_path / "o"), num_random=1)
    assert (tmp_path / "o" / "lung_masks.png").stat().st_size > 5000
    sidecar = record(tmp_path / "o", "lung")
    assert sidecar["synthetic"] is True
    assert sidecar["bundle"]["name"] == "diffmask"
    assert sidecar["settings"]["num_inference_steps"] == 2
    assert sidecar["organ"]["file"] == "lung.nii.gz"
    assert "SYNTHETIC" in str(nib.load(tmp_path / "o" / "lung_mask_1.nii.gz").header["descrip"])


def test_cardiac_overlay_draws_both_classes_into_the_myocardium(monkeypatch, tmp_path):
    weights = weights_of(tmp_path / "w.pt", "emidec")
    grid = np.indices((48, 48, 6)).astype(float)
    distance = np.hypot(grid[0] - 24, grid[1] - 24)
    heart = np.where(distance < 10, 1, np.where(distance < 16, 2, 0)).astype(np.uint8)
    affine = affine_of((1.4, 1.4, 10.0))
    organ = save_nifti(tmp_path / "heart.nii.gz", heart, affine)
    files = [str(INFERENCE), str(BUNDLE / "configs" / "emidec.json")]
    settings = {**TINY, "weights": str(weights), "organ": str(organ), "spatial_size": [48, 48, 6]}
    run_workflow(files, **settings, num_random=1, radius_mm=20, output_dir=str(tmp_path / "o"))
    values = stored_of(tmp_path / "o" / "heart_mask_1.nii.gz")
    assert set(np.unique(values)) <= {0, 3, 4}
    assert not values[heart != 2].any()
    assert record(tmp_path / "o", "heart")["class_labels"] == [3, 4]


def test_hand_crafted_masks_come_from_the_same_command(trained, tmp_path):
    files = [str(INFERENCE), str(BUNDLE / "configs" / "hand_crafted.json")]
    run_workflow(files, **trained, grid=[40, 40, 32], spheres=[[0, 0, 0, 8]], output_dir=str(tmp_path / "o"))
    (entry,) = record(tmp_path / "o", "grid")["masks"]
    assert abs(entry["drawn_radius_mm"] - 8) < 1
    assert record(tmp_path / "o", "grid")["settings"]["inferer"] == "HandCraftedMasks"


# ------------------------------------------------------------------------------------------------ existing outputs


def test_existing_outputs_are_refused_completed_or_replaced(trained, tmp_path):
    organ, out = organ_file(tmp_path), tmp_path / "o"
    settings = {**trained, "organ": str(organ), "num_random": 1, "output_dir": str(out)}
    run_workflow(INFERENCE, **settings)
    first = stored_of(out / "lung_mask_1.nii.gz")
    with pytest.raises(Exception, match=r".*") as error:
        run_workflow(INFERENCE, **settings, seed=1)
    assert "overwrite" in str(find_input_error(error.value))
    run_workflow(INFERENCE, **settings, seed=1, resume="true")
    assert np.array_equal(stored_of(out / "lung_mask_1.nii.gz"), first)
    (out / "lung_masks.json").unlink()
    run_workflow(INFERENCE, **settings, seed=1, resume="true")
    assert not np.array_equal(stored_of(out / "lung_mask_1.nii.gz"), first)
    run_workflow(INFERENCE, **settings, overwrite="true")
    assert np.array_equal(stored_of(out / "lung_mask_1.nii.gz"), first)


# ----------------------------------------------------------------------------------------- the command, and the use


def test_draw_masks_command_checks_its_options_and_draws(trained, tmp_path):
    with pytest.raises(InputError, match="did you mean 'samples'"):
        draw_masks(str(tmp_path / "o"), sampels=2)
    draw_masks(str(tmp_path / "o"), organ=str(organ_file(tmp_path)), samples=2, num_random=1, **trained)
    assert len(list((tmp_path / "o").glob("lung_mask_*.nii.gz"))) == 2


def test_drawn_mask_can_be_painted_at_once(trained, tmp_path):
    """The mask of one bundle is the other's mask."""
    from lung_runs import TINY as PAINT
    from lung_runs import save_tiny_weights

    scan = save_nifti(tmp_path / "ct.nii.gz", chest(SHAPE), AFFINE)
    run_workflow(
        INFERENCE,
        **trained,
        image=str(scan),
        organ=str(organ_file(tmp_path)),
        spheres=[[*mm((15, 15, 6)), 5.0]],
        output_dir=str(tmp_path / "masks"),
    )
    mask = tmp_path / "masks" / "ct_mask_1.nii.gz"
    run_workflow(
        BUNDLE.parent / "lefusion_lidc" / "configs" / "inference.json",
        **PAINT,
        weights=str(save_tiny_weights(tmp_path / "paint.pt")),
        image=str(scan),
        mask=str(mask),
        texture="solid",
        output_dir=str(tmp_path / "painted"),
    )
    before, after, inside = stored_of(scan), stored_of(tmp_path / "painted" / "ct_lefusion.nii.gz"), stored_of(mask) > 0
    assert np.array_equal(before[~inside], after[~inside])
    assert (before[inside] != after[inside]).any()


# ------------------------------------------------------------------------------------------ imported checkpoints


def test_imported_checkpoint_draws_with_the_published_ball_in_the_published_way(tmp_path, monkeypatch):
    save_published(tmp_path / "diffmask.pt", T=300, in_channels=2, out_channels=1, condition_dim=0)
    import_weights(str(tmp_path / "diffmask.pt"), str(tmp_path / "imported"))
    seen = []
    forward = FactorisedUNet.forward

    def recorded(self, x, timesteps, context=None):
        seen.append(x)
        return forward(self, x, timesteps, context)

    monkeypatch.setattr(FactorisedUNet, "forward", recorded)
    own = {"num_inference_steps": 2, "bundle_root": str(BUNDLE), "device": "cpu", "panel": False, "progress": False}
    run_workflow(
        [str(INFERENCE), str(BUNDLE / "configs" / "published.json"), str(tmp_path / "imported" / "network.json")],
        **{**own, "spatial_size": [24, 24, 12], "largest_component": False},
        weights=str(tmp_path / "imported" / "model.pt"),
        organ=str(organ_file(tmp_path)),
        spheres=[[*mm((16, 15, 6)), 6.0]],
        output_dir=str(tmp_path / "out"),
    )
    ball = seen[0][0, 1]
    assert set(ball.unique().tolist()) == {-1.0, 1.0}
    assert float((ball > 0).sum()) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)  # voxels of 1 mm
    settings = record(tmp_path / "out", "lung")["settings"]
    assert (settings["sampler"], settings["prediction_type"]) == ("DDPMSampler", "epsilon")
    drawn = stored_of(next((tmp_path / "out").glob("*_mask_1.nii.gz")))
    assert not drawn[stored_of(tmp_path / "lung.nii.gz") == 0].any()
