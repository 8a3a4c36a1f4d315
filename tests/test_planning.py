"""From cases and texture requests to lesion specifications."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import save_nifti
from thick_stacks import LABELS, STORED_WAYS, affine_of, ring, signal, stored_as

from custom_components.conditioners import HistogramConditioner
from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.planning import plan_lesions
from custom_components.specs import LesionSpec
from custom_components.transforms import LesionCropd
from custom_components.windows import PercentileWindow

SIZE = (24, 24, 6)


def spike(number: int) -> list[float]:
    """A histogram with everything in one bin; its mean is that bin's centre, (number + 0.5) / 8 - 1."""
    return [float(k == number) for k in range(16)]


CONDITIONERS = {
    "scar": HistogramConditioner({"gray": spike(7), "bright": spike(13)}, perturbation=0),
    "core": HistogramConditioner({"dark": spike(2), "light": spike(10)}, perturbation=0),
}


def save_heart(folder: Path, label: np.ndarray | None = None, affine: np.ndarray | None = None, name: str = "heart"):
    """A case of the label map's stack, as ``plan_lesions`` takes it."""
    label = ring() if label is None else label
    affine = affine_of() if affine is None else affine
    return {
        "case": name,
        "image": str(save_nifti(folder / f"{name}.nii.gz", signal(label).astype(np.uint8), affine)),
        "label": str(save_nifti(folder / f"{name}_label.nii.gz", label, affine)),
    }


def plan(cases, **settings) -> list[dict]:
    cases = cases if isinstance(cases, list) else [cases]
    window = PercentileWindow(1, 99)
    defaults = {"spatial_size": SIZE, "spacing_mm": None, "window": window, "labels": LABELS}
    return plan_lesions(cases, **{"conditioner": CONDITIONERS, **defaults, **settings})


def by_class(item: dict) -> dict[str, LesionSpec]:
    return {spec.lesion_class: spec for spec in item["specs"]}


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> dict:
    return save_heart(tmp_path_factory.mktemp("heart"))


# ----------------------------------------------------------------------------------------- what is a lesion


def test_classes_painted_jointly_are_one_item_with_a_specification_for_each_class(heart):
    (item,) = plan(heart)
    scar, core = item["specs"]
    assert (scar.lesion_class, core.lesion_class) == ("scar", "core")
    assert (scar.lesion, core.lesion) == (1, 1)
    assert scar.seed == core.seed and scar.crop_centre_mm == core.crop_centre_mm and scar.window == core.window
    label = ring()
    for spec, value in ((scar, 3), (core, 4)):
        voxels = np.argwhere(label == value)
        low, high = voxels.min(axis=0), voxels.max(axis=0)
        assert spec.box == tuple((a, b + 1) for a, b in zip(low, high, strict=True))
        assert spec.centre_mm == pytest.approx(nib.affines.apply_affine(affine_of(), (low + high) / 2), abs=1e-4)
        assert spec.voxels == len(voxels)
        assert spec.volume_mm3 == pytest.approx(len(voxels) * 1.5 * 1.5 * 8, rel=1e-5)
        assert 4 / 3 * math.pi * spec.radius_mm**3 == pytest.approx(spec.volume_mm3)
    assert (item["image"], item["label"], item["index"]) == (heart["image"], heart["label"], 0)


def test_scattered_parts_of_a_joint_lesion_are_one(tmp_path):
    label = ring()
    label[6, 12, 1] = label[14, 4, 5] = 3
    (item,) = plan(save_heart(tmp_path, label))
    assert by_class(item)["scar"].voxels == (label == 3).sum()


def test_class_that_a_scan_lacks_is_no_error_and_has_a_histogram_of_zeros(tmp_path):
    (item,) = plan(save_heart(tmp_path, ring(core=False)), texture={"scar": "bright", "core": "dark"})
    assert [spec.lesion_class for spec in item["specs"]] == ["scar"]
    crop = LesionCropd(spatial_size=SIZE, spacing_mm=None, labels=LABELS)(item)
    assert crop["histogram"].tolist() == [spike(13), [0.0] * 16]
    assert crop["label"].shape == (2, *SIZE)
    assert crop["label"][0].sum() == (ring(core=False) == 3).sum()
    assert not crop["label"][1].any()


def test_crop_holds_every_voxel_of_each_class_and_the_scan_s_own_values(heart):
    (item,) = plan(heart)
    crop = LesionCropd(spatial_size=SIZE, spacing_mm=None, labels=LABELS)(item)
    label = ring()
    for channel, value in enumerate((3, 4)):
        assert crop["label"][channel].sum() == (label == value).sum()
        inside = np.sort(np.asarray(crop["image"])[0][np.asarray(crop["label"])[channel] > 0])
        np.testing.assert_array_equal(inside, np.sort(signal(label)[label == value]))
    assert crop["window"].tolist() == list(item["specs"][0].window)
    assert crop["seed"] == item["specs"][0].seed


def test_without_joint_painting_every_component_is_a_lesion_from_the_feet_to_the_head(tmp_path):
    mask = np.zeros((30, 30, 30), dtype=np.uint8)
    mask[4:7, 5:8, 20:24] = mask[20:23, 5:8, 3:5] = 1
    affine = affine_of((0, 0, 0), (1, 1, 1))
    case = save_heart(tmp_path, mask, affine)
    texture = ["gray", "bright"]
    items = plan(
        case,
        labels=None,
        conditioner=CONDITIONERS["scar"],
        spatial_size=(8, 8, 8),
        spacing_mm=(1, 1, 1),
        texture=texture,
    )
    (first,), (second,) = (item["specs"] for item in items)
    assert [(s.lesion, s.lesion_class, s.voxels, s.texture) for s in (first, second)] == [
        (1, "lesion", 18, "gray"),
        (2, "lesion", 36, "bright"),
    ]
    assert [item["index"] for item in items] == [0, 1]
    assert first.seed != second.seed
    for spec in (first, second):
        assert spec.crop_centre_mm == spec.centre_mm


def test_two_classes_without_joint_painting_share_a_component(tmp_path):
    label = ring()
    label[6, 12, 2] = 4
    labels = LesionLabels(LABELS.classes, LABELS.anatomy)
    items = plan(save_heart(tmp_path, label), labels=labels)
    assert sorted([spec.lesion_class for spec in item["specs"]] for item in items) == [["core"], ["scar", "core"]]


# ----------------------------------------------------------------------------------------- where the crop lies


def crop_voxels(spec: LesionSpec, affine: np.ndarray) -> np.ndarray:
    """The crop's middle in voxels of the scan."""
    return nib.affines.apply_affine(np.linalg.inv(affine), spec.crop_centre_mm)


@pytest.mark.parametrize("way", STORED_WAYS[::9], ids=str)
def test_crop_is_centred_on_the_anatomy_however_the_scan_is_stored(tmp_path, way):
    """Wall and lesions span voxels 6..22, 4..20 and 1..5 of the ring."""
    stored, affine = stored_as(ring(), affine_of(), way)
    (item,) = plan(save_heart(tmp_path, stored, affine))
    middle = nib.affines.apply_affine(affine_of(), (14, 12, 3))
    assert item["specs"][0].crop_centre_mm == pytest.approx(middle, abs=1e-3)


def test_crop_is_moved_as_far_as_the_lesion_needs_and_no_further(tmp_path):
    """The scar spans 15..22 along the first axis, the wall 6..22: of 16 voxels, 10 fit around the lesion's middle."""
    case = save_heart(tmp_path)
    wide, narrow = (plan(case, spatial_size=size)[0]["specs"][0] for size in (SIZE, (10, 24, 6)))
    assert crop_voxels(wide, affine_of()) == pytest.approx((14, 12, 3), abs=1e-3)
    moved = crop_voxels(narrow, affine_of())
    assert moved[1:] == pytest.approx((12, 3), abs=1e-3)
    assert 14 < moved[0] < 18.5
    crop = LesionCropd(spatial_size=(10, 24, 6), spacing_mm=None, labels=LABELS)(
        plan(case, spatial_size=(10, 24, 6))[0]
    )
    assert crop["label"][0].sum() == (ring() == 3).sum()
    assert crop["label"][1].sum() == (ring() == 4).sum()


@pytest.mark.parametrize("size", [(8, 24, 6), (9, 12, 3), (24, 12, 4), (8, 11, 3)])
def test_lesion_is_whole_in_a_crop_that_barely_holds_it(tmp_path, size):
    """The scar spans 8 x 11 x 3 voxels."""
    for way in STORED_WAYS[::9]:
        stored, affine = stored_as(ring(), affine_of(), way)
        case = save_heart(tmp_path / str(way.tolist()), stored, affine)
        crop = LesionCropd(spatial_size=size, spacing_mm=None, labels=LABELS)(plan(case, spatial_size=size)[0])
        assert crop["label"].sum() == (ring() >= 3).sum()


def test_lesion_larger_than_the_crop_is_told_with_both_sizes(heart):
    told = (
        r"lesion 1 of mask .*heart_label\.nii\.gz measures 12 x 1[67] x 24 mm, larger than the crop of 36 x 36 x 16 mm"
    )
    with pytest.raises(InputError, match=told):
        plan(heart, spatial_size=(24, 24, 2))


# ----------------------------------------------------------------------------------------- the window


def test_window_is_that_of_the_crop_s_voxels_outside_the_lesions(tmp_path):
    label = ring()
    image = signal(label)
    image[label >= 3] = 255
    case = save_heart(tmp_path, label)
    save_nifti(Path(case["image"]), image.astype(np.uint8), affine_of())
    (item,) = plan(case, window=PercentileWindow(0, 100))
    assert item["specs"][0].window == (image[label < 3].min(), image[label < 3].max())
    assert item["specs"][0].window[1] < 255


def test_scan_without_contrast_is_told_with_its_file(tmp_path):
    case = save_heart(tmp_path)
    save_nifti(Path(case["image"]), np.full(ring().shape, 7, np.uint8), affine_of())
    with pytest.raises(InputError, match=r"image .*heart\.nii\.gz: the scan has the same value, 7"):
        plan(case)


# ----------------------------------------------------------------------------------------- textures


@pytest.mark.parametrize(
    ("texture", "expected"),
    [
        ({"scar": "bright", "core": "light"}, ("bright", "light")),
        ({"scar": "gray", "core": "none"}, ("gray", "none")),
        ([{"scar": "gray", "core": "dark"}], ("gray", "dark")),
        ({"core": spike(3), "scar": "gray"}, ("gray", "custom")),
        ("none", ("none", "none")),
        (spike(5), ("custom", "custom")),
        ([spike(5)], ("custom", "custom")),
        ([None], ("none", "none")),
    ],
)
def test_textures_are_asked_for_all_classes_or_each(heart, texture, expected):
    (item,) = plan(heart, texture=texture)
    assert tuple(spec.texture for spec in item["specs"]) == expected
    presets = {"gray": 7, "bright": 13, "dark": 2, "light": 10}
    for spec in item["specs"]:
        if spec.texture in presets:
            assert spec.histogram == pytest.approx(spike(presets[spec.texture]))
        elif spec.texture == "none":
            assert spec.histogram == (0.0,) * 16


def test_class_that_a_request_leaves_out_is_drawn(heart):
    drawn = {by_class(plan(heart, texture={"scar": "gray"}, seed=seed)[0])["core"].texture for seed in range(12)}
    assert drawn == {"dark", "light"}


def test_a_case_s_own_request_comes_first(heart):
    (item,) = plan({**heart, "lesion_texture": {"scar": "gray", "core": "light"}}, texture="random")
    assert [spec.texture for spec in item["specs"]] == ["gray", "light"]


@pytest.mark.parametrize(
    ("texture", "message"),
    [
        ({"tumour": "gray"}, "texture names the class 'tumour'; known: scar, core"),
        ({"scar": "dark"}, "unknown texture 'dark'; known: gray, bright, random, none, or a list of 16 numbers"),
        ([{"scar": "gray"}, {"scar": "gray"}], r"texture lists 2 requests, but case heart has 1 lesion\."),
        ({"core": [0.5, 0.5]}, "histogram must have 16 bins"),
        ("bright", "unknown texture 'bright'; known: dark, light"),
    ],
)
def test_request_that_cannot_be_met_is_told_in_one_sentence(heart, texture, message):
    with pytest.raises(InputError, match=message):
        plan(heart, texture=texture)


# ----------------------------------------------------------------------------------------- contrasts


def pairs(heart, contrasts, texture="random", seeds=30) -> set[tuple[str, str]]:
    items = [plan(heart, contrasts=contrasts, texture=texture, seed=seed)[0] for seed in range(seeds)]
    return {tuple(spec.texture for spec in item["specs"]) for item in items}


def test_random_textures_keep_their_classes_as_far_apart_as_in_real_scans(heart):
    """Means: gray -0.0625, bright 0.6875, dark -0.6875, light 0.3125."""
    assert pairs(heart, []) == {("gray", "dark"), ("gray", "light"), ("bright", "dark"), ("bright", "light")}
    assert pairs(heart, [["core", "scar", 0.0, 2.0]]) == {("gray", "dark"), ("bright", "dark"), ("bright", "light")}
    assert pairs(heart, [["core", "scar", 0.5, 1.0]]) == {("gray", "dark")}
    assert pairs(heart, [["scar", "core", 0.0, 2.0]]) == {("gray", "light")}


def test_contrast_with_the_scan_s_own_anatomy_counts(heart):
    """The wall lies near the lower end of the window, the pool near the upper."""
    assert {core for _, core in pairs(heart, [["pool", "core", -3.0, -0.8]])} == {"dark"}
    assert {core for _, core in pairs(heart, [["wall", "core", 0.8, 3.0]])} == {"light"}


def test_texture_asked_for_is_painted_as_asked_whatever_the_contrasts(heart):
    contrasts = [["core", "scar", 0.0, 2.0]]
    assert pairs(heart, contrasts, {"scar": "gray", "core": "light"}, 3) == {("gray", "light")}
    assert pairs(heart, contrasts, {"core": "light"}) == {("bright", "light")}


def test_where_no_draw_will_do_the_closest_is_taken(heart):
    assert pairs(heart, [["core", "scar", 1.9, 2.0]]) == {("bright", "dark")}


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ([["core", "liver", 0, 1]], "contrasts name 'liver'; known: scar, core, pool, wall"),
        ([["core", "scar"]], r"entries \[darker, brighter, least, most\], got \['core', 'scar'\]"),
        ([["core", "scar", 1, 0]], "entries"),
    ],
)
def test_contrast_that_cannot_be_is_told(heart, contrasts, message):
    with pytest.raises(InputError, match=message):
        plan(heart, contrasts=contrasts)


# ----------------------------------------------------------------------------------------- draws and replay


def test_same_seed_gives_the_same_specifications_whatever_other_cases_there_are(tmp_path, heart):
    other = save_heart(tmp_path, ring(core=False), name="other")
    alone = plan(heart, seed=4)[0]["specs"]
    together = plan([other, heart], seed=4)[1]["specs"]
    assert alone == together
    assert plan(heart, seed=5)[0]["specs"][0].seed != alone[0].seed


def test_replay_takes_textures_and_seed_of_each_class_from_the_sidecar(heart, tmp_path):
    (item,) = plan(heart, texture={"scar": "bright", "core": spike(4)}, seed=11)
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"lesions": [{"spec": spec.as_dict()} for spec in item["specs"]]}))
    (again,) = plan(heart, replay=record, seed=99, texture="random")
    assert again["specs"] == item["specs"]


def test_replay_for_a_scan_with_other_classes_is_refused(heart, tmp_path):
    (item,) = plan(heart)
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"lesions": [{"spec": item["specs"][0].as_dict()}]}))
    with pytest.raises(InputError, match=r"record\.json tells of scar in lesion 1, case heart has scar, core"):
        plan(heart, replay=record)


def test_counts_are_told_in_the_singular_and_in_the_plural(heart, tmp_path):
    """A scan with two lesions, and the record of one with one; and the other way round."""
    two = LesionLabels({"spot": 1})
    label = np.zeros((28, 26, 6), np.uint8)
    label[6:9, 6:9, 2] = label[18:21, 18:21, 4] = 1
    case = save_heart(tmp_path, label, name="spots")
    with pytest.raises(InputError, match=r"^texture lists 1 request, but case spots has 2 lesions\.$"):
        plan(case, labels=two, conditioner=CONDITIONERS["scar"], texture=[{"spot": "gray"}])
    records = {
        "one": [spec.as_dict() for spec in plan(heart)[0]["specs"]],
        "two": [item["specs"][0].as_dict() for item in plan(case, labels=two, conditioner=CONDITIONERS["scar"])],
    }
    for name, specs in records.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"lesions": [{"spec": spec} for spec in specs]}))
    with pytest.raises(InputError, match=r"one\.json tells of 1 lesion, case spots has 2\.$"):
        plan(case, labels=two, conditioner=CONDITIONERS["scar"], replay=tmp_path / "one.json")
    with pytest.raises(InputError, match=r"two\.json tells of 2 lesions, case heart has 1\.$"):
        plan(heart, replay=tmp_path / "two.json")
