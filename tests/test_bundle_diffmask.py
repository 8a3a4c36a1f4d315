"""The mask bundle, run whole with a tiny network: what it draws, where, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import causes, save_nifti, stored_of
from lung_runs import run_workflow
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from published_format import save_published
from small_chest import affine_of, balls, chest

from custom_components.errors import InputError, find_input_error
from custom_components.networks import FactorisedUNet
from custom_components.specs import find_lesions
from lefusion_scripts.evaluate_masks import _halves, evaluate_masks
from lefusion_scripts.fit_sphere_radii import fit_sphere_radii
from lefusion_scripts.import_weights import import_weights
from lefusion_scripts.run import draw_masks, run

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "diffmask"
NETWORK = {"channels": [8, 8], "attention_levels": [False, False], "norm_num_groups": 4, "num_head_channels": 4}
TINY = {
    **{f"network_def#{key}": value for key, value in NETWORK.items()},
    "num_inference_steps": 2,
    "bundle_root": str(BUNDLE),
    "device": "cpu",
    "panel": False,
    "progress": False,
}
INFERENCE = BUNDLE / "configs" / "inference.json"
SHAPE = (36, 32, 12)
AFFINE = affine_of((1.2, 1.2, 3.0), (-1, 1, 1), tilt_degrees=8)


class SphereNetwork(torch.nn.Module):
    """Stands in for a trained network: x_0 is the control sphere's ball in every class."""

    def __init__(self, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__()
        self.classes, self.weight = out_channels, torch.nn.Parameter(torch.zeros(1))

    def check_size(self, spatial_size) -> None:
        pass

    def forward(self, x, timesteps, context=None):
        sphere = x[:, self.classes : self.classes + 1]
        return (2 * (sphere >= 0).float() - 1).expand(-1, self.classes, *x.shape[2:])


@pytest.fixture
def trained(monkeypatch, tmp_path) -> dict[str, Any]:
    """Overrides under which the bundle draws the control spheres themselves."""
    monkeypatch.setattr("custom_components.networks.PatchUNet", SphereNetwork)
    torch.save(SphereNetwork(2, 1).state_dict(), tmp_path / "sphere.pt")
    return {**TINY, "weights": str(tmp_path / "sphere.pt")}


def mm(index) -> list[float]:
    return [float(v) for v in (AFFINE @ [*index, 1.0])[:3]]


def organ_file(folder: Path, name: str = "lung.nii.gz") -> Path:
    organ = np.zeros(SHAPE, np.uint8)
    organ[4:30, 4:28, 1:11] = 1
    return save_nifti(folder / name, organ, AFFINE)


def record(folder: Path, case: str) -> dict[str, Any]:
    return json.loads((folder / f"{case}_masks.json").read_text())


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


def weights_of(path: Path, *overlays: str) -> Path:
    """Tiny weights of the real network, none of them zero."""
    parser = ConfigParser()
    parser.read_config([str(INFERENCE), *(str(BUNDLE / "configs" / f"{name}.json") for name in overlays)])
    parser.update({f"network_def#{key}": value for key, value in NETWORK.items()})
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.save(network.state_dict(), path)
    return path


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


# ------------------------------------------------------------------------------------------------------- bad input

Fault = Callable[[Path], dict[str, Any]]
CENTRE = mm((15, 15, 6))
FAULTS: dict[str, tuple[Fault, str]] = {
    "radius of zero": (lambda folder: {"spheres": [[*CENTRE, 0]]}, "radius above 0"),
    "negative radius": (lambda folder: {"spheres": [[*CENTRE, -2]]}, "radius above 0"),
    "radius larger than the crop": (lambda folder: {"spheres": [[*CENTRE, 40]]}, "more than the crop holds"),
    "a number that is not finite": (lambda folder: {"spheres": [[*CENTRE, float("nan")]]}, "not finite"),
    "three numbers": (lambda folder: {"spheres": [CENTRE]}, "four numbers"),
    "sphere outside the scan": (lambda folder: {"spheres": [[900, 0, 0, 5]]}, "outside the scan"),
    "sphere that the organ is disjoint from": (
        lambda folder: {"spheres": [[*mm((1, 1, 0)), 3]]},
        "no voxel of the organ",
    ),
    "spheres that overlap": (lambda folder: {"spheres": [[*CENTRE, 5], [*CENTRE, 4]]}, "overlap"),
    "unknown coordinates": (lambda folder: {"spheres": [[*CENTRE, 5]], "coordinates": "cm"}, "coordinates"),
    "an empty organ": (
        lambda folder: {"organ": str(save_nifti(folder / "e.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE))},
        "is empty",
    ),
    "an organ without the label": (lambda folder: {"organ_labels": [7]}, "none of the labels"),
    "an organ of another shape": (
        lambda folder: {"image": str(save_nifti(folder / "s.nii.gz", chest((9, 9, 9)), AFFINE))},
        "has shape",
    ),
    "an organ on another grid": (
        lambda folder: {"image": str(save_nifti(folder / "s.nii.gz", chest(SHAPE), affine_of((2, 2, 2))))},
        "another grid",
    ),
    "an absent organ": (lambda folder: {"organ": str(folder / "absent.nii.gz")}, "does not exist"),
    "NaN in the scan": (
        lambda folder: {"image": str(save_nifti(folder / "n.nii.gz", np.full(SHAPE, np.nan, np.float32), AFFINE))},
        "NaN",
    ),
    "grid beside an organ": (lambda folder: {"grid": [8, 8, 8]}, "grid stands for"),
    "no samples": (lambda folder: {"samples": 0}, "samples"),
    "no spheres": (lambda folder: {"num_random": 0}, "num_random"),
    "radii that fall": (lambda folder: {"radius_mm": [6, 4]}, "radius_mm"),
    "an organ too small for the radius": (lambda folder: {"radius_mm": 30}, "no room"),
    "negative smoothing": (lambda folder: {"smoothing": [-1, 0, 0]}, "smoothing"),
    "a sidecar that is none": (lambda folder: {"replay": str(folder / "lung.nii.gz")}, "replay"),
    "a data set that does not exist": (
        lambda folder: {"organ": None, "dataset_dir": str(folder / "no")},
        "does not exist",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_is_one_sentence_before_any_sampling(trained, tmp_path, monkeypatch, name):
    def no_sampling(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was called")

    monkeypatch.setattr(SphereNetwork, "forward", no_sampling)
    make, told = FAULTS[name]
    settings = {"organ": str(organ_file(tmp_path)), "num_random": 1, "output_dir": str(tmp_path / "o")}
    with pytest.raises(Exception, match=r".*") as error:
        run_workflow(INFERENCE, **{**trained, **settings, **make(tmp_path)})
    found = find_input_error(error.value)
    assert found is not None, causes(error.value)
    assert told in str(found)
    assert "\n" not in str(found)
    assert not (tmp_path / "o").exists()


# --------------------------------------------------------------------------------------------- commands and training


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


@pytest.fixture
def labels(tmp_path) -> Path:
    """Eight patients with one lesion each."""
    for number in range(8):
        mask = balls((24, 24, 20), [((12, 11, 10), 4 + 0.5 * number)]).astype(np.uint8)
        mask[12:14, 11:20, 10] = 1
        save_nifti(tmp_path / "data" / "labels" / f"p{number}.nii.gz", mask)
    return tmp_path / "data"


def test_training_writes_weights_that_draw(labels, tmp_path):
    tiny = {key: value for key, value in TINY.items() if key.startswith("network_def") or key == "device"}
    run(
        "training",
        "diffmask",
        "train_cpu",
        dataset_dir=str(labels),
        output_dir=str(tmp_path / "run"),
        max_epochs=2,
        val_interval=1,
        picture_interval=2,
        batch_size=4,
        num_inference_steps=2,
        logging_file=False,
        **tiny,
    )
    weights = tmp_path / "run" / "checkpoints" / "model.pt"
    assert all(isinstance(value, torch.Tensor) for value in torch.load(weights, weights_only=True).values())
    assert (tmp_path / "run" / "pictures" / "samples_epoch_0002.png").stat().st_size > 1000
    run(
        "evaluate",
        "diffmask",
        dataset_dir=str(labels),
        weights=str(weights),
        output_dir=str(tmp_path / "evaluation"),
        num_inference_steps=2,
        logging_file=False,
        **tiny,
    )
    summary = json.loads((tmp_path / "evaluation" / "masks.json").read_text())["summary"]
    assert summary["masks"] == 2
    run_workflow(
        INFERENCE, **TINY, weights=str(weights), grid=[32, 32, 32], num_random=1, output_dir=str(tmp_path / "o")
    )
    assert (tmp_path / "o" / "grid_mask_1.nii.gz").is_file()


def test_mask_evaluation_measures_control_limits_and_shapes(trained, labels, tmp_path):
    report = evaluate_masks(str(labels), str(tmp_path / "e"), val_fraction=0.5, gallery=2, **trained)
    assert report["lesions"] == [2, 2]
    assert report["voxels_outside"] == 0
    assert report["non_empty"] == 1
    assert report["control"]["centre_error_mm_median"] < 1
    assert report["control"]["radius_error_mm_median"] < 1
    assert report["wasserstein"]["drawn"]["sphere_fill"] > report["wasserstein"]["real"]["sphere_fill"]
    assert (tmp_path / "e" / "shapes.png").stat().st_size > 5000
    with pytest.raises(InputError, match="overwrite"):
        evaluate_masks(str(labels), str(tmp_path / "e"), **trained)


def test_the_halves_that_are_compared_hardly_differ_in_size():
    lesions = [{"radius": radius, "case": str(radius)} for radius in (9.0, 3.0, 30.0, 3.5, 8.0, 5.0, 5.5)]
    first, second = _halves(lesions)
    assert [one["radius"] for one in first] == [3.5, 5.5, 9.0]
    assert [one["radius"] for one in second] == [3.0, 5.0, 8.0, 30.0]


def test_radii_of_real_lesions_are_fitted(labels, tmp_path):
    content = fit_sphere_radii(str(labels), str(tmp_path / "radii.json"), val_fraction=0.25)
    quantiles = content["radius_mm_quantiles"]
    assert content["fitted_on"]["count"] == 6
    assert quantiles == sorted(quantiles)
    assert 4 < quantiles[0] < quantiles[-1] < 10
    with pytest.raises(InputError, match="overwrite"):
        fit_sphere_radii(str(labels), str(tmp_path / "radii.json"))


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize(("kind", "name"), [("train", "train"), ("inference", "inference")])
def test_workflow_has_every_property_from_any_working_directory(labels, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    overrides = {"dataset_dir": str(labels), "output_dir": str(tmp_path / "runs")} if kind == "train" else {}
    config = str(BUNDLE / "configs" / f"{name}.json")
    workflow = ConfigWorkflow(workflow_type=kind, config_file=config, logging_file=False, device="cpu", **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        config_file=str(INFERENCE),
        device="cpu",
        n=2,
        extra_forward_args={"timesteps": torch.tensor([7])},
    )


@pytest.mark.parametrize(("weights", "overlays"), [("model.pt", ()), ("model_emidec.pt", ("emidec",))])
def test_shipped_weights_are_tensors_that_fit_the_network(weights, overlays):
    path = BUNDLE / "models" / weights
    assert path.stat().st_size <= 25 * 2**20
    parser = ConfigParser()
    parser.read_config([str(INFERENCE), *(str(BUNDLE / "configs" / f"{name}.json") for name in overlays)])
    parser.get_parsed_content("network_def").load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize(
    "key",
    [
        "num_train_timesteps",
        "snr_shift",
        "num_classes",
        "class_labels",
        "context",
        "prediction_type",
        "spatial_size",
        "radius_voxels",
        "spacing_mm",
        "network_def",
    ],
)
@pytest.mark.parametrize("overlay", [(), ("emidec",)])
def test_training_and_inference_agree(key, overlay):
    contents = []
    for name, overlays in (("train", [f"{one}_train" for one in overlay]), ("inference", overlay)):
        parser = ConfigParser()
        parser.read_config([str(BUNDLE / "configs" / f"{file}.json") for file in (name, *overlays)])
        contents.append(parser[key])
    assert contents[0] == contents[1]


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


def test_falloff_of_the_sphere_must_not_be_negative(trained, tmp_path):
    with pytest.raises(Exception) as caught:
        run_workflow(
            str(INFERENCE), **{**trained, "sphere_falloff_mm": -1}, grid=[24, 24, 24], output_dir=str(tmp_path / "out")
        )
    assert "sphere_falloff_mm must not be negative, got -1." in str(find_input_error(caught.value))
