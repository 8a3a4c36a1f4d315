"""What the mask bundle refuses: one sentence before any sampling, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import causes, save_nifti
from lung_runs import run_workflow
from mask_runs import (
    AFFINE,
    INFERENCE,
    SHAPE,
    SphereNetwork,
    mm,
    organ_file,
    trained_fixture,  # noqa: F401 (a fixture)
)
from small_chest import affine_of, chest

from custom_components.errors import find_input_error

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


def test_falloff_of_the_sphere_must_not_be_negative(trained, tmp_path):
    with pytest.raises(Exception) as caught:
        run_workflow(
            str(INFERENCE), **{**trained, "sphere_falloff_mm": -1}, grid=[24, 24, 24], output_dir=str(tmp_path / "out")
        )
    assert "sphere_falloff_mm must not be negative, got -1." in str(find_input_error(caught.value))
