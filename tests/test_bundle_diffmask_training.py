"""The mask bundle learns shapes, its masks are measured, and the radii of real lesions fitted."""

from __future__ import annotations

import json

import pytest
import torch
from lung_runs import run_workflow
from mask_runs import (
    INFERENCE,
    TINY,
    labels_fixture,  # noqa: F401 (a fixture)
    trained_fixture,  # noqa: F401 (a fixture)
)

from custom_components.errors import InputError
from lefusion_scripts.evaluate_masks import _halves, evaluate_masks
from lefusion_scripts.fit_sphere_radii import fit_sphere_radii
from lefusion_scripts.run import run


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
