"""The cardiac bundle, run whole with a tiny network: what it paints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import (
    Output,
    causes,
    files_below,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
    stored_of,
)
from cardiac_runs import (
    CONFIGS,
    MI,
    PMO,
    paint_fixture,  # noqa: F401 (a fixture)
    save_case,
)
from thick_stacks import ring

from custom_components.errors import InputError, find_input_error
from custom_components.inferers import LesionInpaintingInferer
from custom_components.lesion_transfer import copy_lesions
from custom_components.phantoms import Phantom, short_axis_phantom

# ----------------------------------------------------------------------------------------- painting


def save_phantom(folder: Path, heart: Phantom, labels: np.ndarray) -> dict[str, str]:
    image = save_nifti(folder / "case.nii.gz", heart.image, heart.affine)
    return {"image": str(image), "mask": str(save_nifti(folder / "label.nii.gz", labels, heart.affine))}


def assert_painted_inside_alone(output: Output, files: dict[str, str], classes=(MI, PMO)) -> None:
    before, label = stored_of(files["image"]), stored_of(files["mask"])
    lesion = np.isin(label, classes)
    assert output.stored.dtype == before.dtype
    assert np.array_equal(output.stored[~lesion], before[~lesion])
    for value in classes:
        if (label == value).any():
            assert (output.stored[label == value] != before[label == value]).mean() > 0.8
    np.testing.assert_array_equal(np.asarray(output.mask.dataobj), np.where(lesion, label, 0))


@pytest.fixture(scope="module")
def normal() -> Phantom:
    return short_axis_phantom(5, (96, 96, 6), (1.4, 1.4, 10.0))


def test_pathological_map_is_painted_into_a_phantom_with_the_bundle_s_own_crop(paint, normal, tmp_path):
    ill = short_axis_phantom(5, (96, 96, 6), (1.4, 1.4, 10.0), pathological=True)
    assert set(np.unique(ill.labels)) == {0, 1, 2, MI, PMO}
    files = save_phantom(tmp_path / "in", normal, ill.labels)
    output = paint(tmp_path / "out", **files, spatial_size=[72, 72, 10], panel=True)
    assert_painted_inside_alone(output, files)
    assert output.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz", "case_panel.png"]
    assert [spec["lesion_class"] for spec in output.specs] == ["mi", "pmo"]
    assert output.sidecar["bundle"]["name"] == "lefusion_emidec"
    means = {e["spec"]["lesion_class"]: e["mean_painted"] for e in output.sidecar["lesions"]}
    assert means["pmo"] < means["mi"], "textures are drawn so that obstruction is darker than infarct"


def test_lesions_copied_from_another_heart_are_painted_into_a_normal_one(paint, normal, tmp_path):
    source = short_axis_phantom(8, (96, 96, 7), (1.4, 1.4, 9.0), pathological=True)
    labels = copy_lesions(source.labels, source.affine, normal.labels, normal.affine)
    files = save_phantom(tmp_path / "in", normal, labels)
    output = paint(tmp_path / "out", **files, spatial_size=[72, 72, 6])
    assert_painted_inside_alone(output, files)


def test_case_without_obstruction_is_normal(paint, tmp_path):
    files = save_case(tmp_path / "in", ring(core=False))
    output = paint(tmp_path / "out", **files, texture={"mi": "strong", "pmo": "dark"})
    assert_painted_inside_alone(output, files)
    assert [(spec["lesion_class"], spec["texture"]) for spec in output.specs] == [("mi", "strong")]


def test_shipped_presets_steer_each_class(paint, tmp_path):
    files = save_case(tmp_path / "in")
    presets = json.loads((CONFIGS / "texture_presets.json").read_text())["classes"]
    means = {}
    for mi, pmo in (("weak", "grey"), ("strong", "dark")):
        output = paint(tmp_path / mi, **files, texture={"mi": mi, "pmo": pmo}, texture_perturbation=0.0)
        assert [spec["texture"] for spec in output.specs] == [mi, pmo]
        for spec, name in zip(output.specs, (mi, pmo), strict=True):
            own = presets[spec["lesion_class"]]["presets"][name]
            np.testing.assert_allclose(spec["histogram"], own, atol=1e-5)
        means[mi] = [lesion["mean_painted"] for lesion in output.sidecar["lesions"]]
    assert means["strong"][0] > means["weak"][0] and means["strong"][1] < means["weak"][1]


@pytest.mark.parametrize("overlay", ["diffused", "paper_sampler"])
def test_overlays_paint(paint, tmp_path, overlay):
    files = save_case(tmp_path / "in")
    output = paint(tmp_path / "out", overlay, **files, num_inference_steps=2, jump_length=1, jump_n_sample=1)
    assert_painted_inside_alone(output, files)
    assert output.sidecar["settings"]["sampler"] == ("DDPMSampler" if overlay == "paper_sampler" else "DDIMSampler")


def test_resume_paints_only_the_cases_without_a_record(paint, tmp_path, monkeypatch):
    for name in ("one", "two"):
        files = save_case(tmp_path / "in" / name)
        for kind, folder in (("image", "images"), ("mask", "labels")):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Path(files[kind]).rename(tmp_path / "data" / folder / f"{name}.nii.gz")
    data = {"dataset_dir": str(tmp_path / "data")}
    first = paint(tmp_path / "out", case="two", **data)
    assert len(first.files()) == 6
    expected = first.stored
    (tmp_path / "out" / "two_lefusion.json").unlink()
    before = files_below(tmp_path / "out")
    batches = []
    sample = LesionInpaintingInferer.sample
    monkeypatch.setattr(
        LesionInpaintingInferer,
        "sample",
        lambda self, *args, **kwargs: batches.append(1) or sample(self, *args, **kwargs),
    )
    again = paint(tmp_path / "out", case="two", resume=True, **data)
    assert len(batches) == 1
    assert np.array_equal(again.stored, expected)
    after = files_below(tmp_path / "out")
    assert {name: after[name] for name in before if name.startswith("one")} == {
        name: before[name] for name in before if name.startswith("one")
    }


def test_replay_gives_the_same_bytes(paint, tmp_path):
    files = save_case(tmp_path / "in")
    first = paint(tmp_path / "first", **files, seed=4)
    again = paint(tmp_path / "again", **files, seed=5, replay=str(tmp_path / "first" / "case_lefusion.json"))
    assert np.array_equal(first.stored, again.stored)
    assert first.specs == again.specs


# ----------------------------------------------------------------------------------------- bad input


def odd_label(value: int) -> np.ndarray:
    label = ring()
    label[0, 0, 0] = value
    return label


def two_scars_far_apart() -> np.ndarray:
    label = ring((44, 26, 6))
    label[42, 12, 3] = 3
    return label


BAD_INPUT = {
    "label with unknown value": (
        {"label": odd_label(9)},
        {},
        "label.nii.gz must hold 0, 1, 2, 3 and 4 only, it holds 9",
    ),
    "no lesion": ({"label": ring(lesion=False)}, {}, r"label.nii.gz holds no lesion \(mi = 3, pmo = 4\)"),
    "empty label": ({"label": np.zeros((28, 26, 6), np.uint8)}, {}, "label.nii.gz is empty"),
    "lesion too large": (
        {"label": two_scars_far_apart()},
        {},
        "lesion 1 of mask .*label.nii.gz measures .* larger than",
    ),
    "constant image": ({"image": np.full((28, 26, 6), 7, np.uint8)}, {}, "case.nii.gz: the scan has the same value, 7"),
    "crop of another size": ({}, {"spatial_size": [20, 24, 6]}, r"spatial_size must be multiples of \[8, 8, 1\]"),
    "unknown class": ({}, {"texture": {"scar": "strong"}}, "texture names the class 'scar'; known: mi, pmo"),
    "texture of another class": ({}, {"texture": {"pmo": "strong"}}, "unknown texture 'strong'; known: dark, grey"),
    "percentiles": ({}, {"intensity_percentiles": [99, 1]}, "intensity_percentiles must rise within 0 and 100"),
    "unknown contrast": ({}, {"contrasts": [["mi", "fat", 0, 1]]}, "contrasts name 'fat'"),
    "weights of an unknown texture": ({}, {"texture_weights": {"mi": {"dark": 1}}}, "unknown texture 'dark'"),
}


@pytest.mark.parametrize("fault", BAD_INPUT)
def test_fault_is_told_in_one_sentence_before_any_sampling_and_nothing_is_written(paint, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(LesionInpaintingInferer, "sample", lambda *args, **kwargs: pytest.fail("sampling began"))
    volumes, overrides, message = BAD_INPUT[fault]
    files = save_case(tmp_path / "in", volumes.get("label"), volumes.get("image"))
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        paint(tmp_path / "out", **files, **overrides)
    error = find_input_error(caught.value)
    assert error is not None, causes(caught.value)
    assert "\n" not in str(error) and str(error).endswith(".")
    with pytest.raises(InputError, match=message):
        raise error
    assert not (tmp_path / "out").exists()


def test_presets_that_lack_a_class_are_told(paint, tmp_path):
    presets = json.loads((CONFIGS / "texture_presets.json").read_text())
    del presets["classes"]["pmo"]
    (tmp_path / "presets.json").write_text(json.dumps(presets))
    with pytest.raises(Exception) as caught:
        paint(tmp_path / "out", **save_case(tmp_path / "in"), texture_presets=str(tmp_path / "presets.json"))
    assert "presets.json lack the class 'pmo'" in str(find_input_error(caught.value))
    assert not (tmp_path / "out").exists()
