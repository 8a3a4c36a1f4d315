"""The MONAI Label app as its clients see it: from a click to a mask, a painted scan and the next sample."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import save_nifti, stored_of
from label_study import GRIDS, ball, middle, save_mask
from thick_stacks import affine_of, ring

pytestmark = pytest.mark.integration


def same_grid(first: Path, second: Path) -> bool:
    one, other = nib.load(first), nib.load(second)
    return one.shape == other.shape and np.allclose(one.affine, other.affine, atol=1e-4)


@pytest.mark.parametrize("image", GRIDS)
def test_click_becomes_a_mask_then_a_painted_scan_and_then_the_next_sample(label_app, image):
    client, scan = label_app.client, label_app.studies / f"{image}.nii.gz"
    click = middle(image)
    mask_file, told = client.infer("diffmask", image, foreground=[click], radius=6)
    mask = stored_of(mask_file) == 1
    assert same_grid(mask_file, scan)
    assert told["label_names"] == {"lesion": 1}
    affine = GRIDS[image][0]
    centre = affine[:3, :3] @ (np.argwhere(mask).mean(axis=0) - click)
    assert mask.any()
    assert np.linalg.norm(centre) < 4  # of a lesion that is not quite round

    painted_file, told = client.infer("lefusion_lidc", image, mask_file, texture="solid", result="image", steps=2)
    before, after = stored_of(scan), stored_of(painted_file)
    assert same_grid(painted_file, scan)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).mean() > 0.9

    sample = client("next_sample", "newest", {})
    assert sample["id"] == told["sample"] != image
    np.testing.assert_array_equal(stored_of(sample["path"]), after)
    assert sample["source"] == image
    assert sample["sidecar"]["synthetic"] is True
    kept = client("datastore")["objects"][sample["id"]]["labels"]["original"]["info"]
    assert kept["params"]["label_names"] == {"lesion": 1}  # by which a viewer names the segments
    label = label_app.studies / "labels" / "original" / f"{sample['id']}.nii.gz"
    np.testing.assert_array_equal(stored_of(label), mask)


def test_painted_samples_are_among_those_of_the_other_strategies(label_app, tmp_path):
    mask = save_mask(tmp_path, ball("oblique", middle("oblique"), 4), GRIDS["oblique"][0])
    _, told = label_app.client.infer("lefusion_lidc", "oblique", mask, steps=1)
    images = label_app.client("datastore")["objects"]
    unlabelled = {name for name, entry in images.items() if "final" not in entry["labels"]}
    assert told["sample"] in unlabelled
    assert label_app.client("next_sample", "first", {})["id"] == min(unlabelled)
    assert label_app.client("next_sample", "random", {})["id"] in unlabelled


def test_the_mask_is_the_answer_where_no_result_is_named(label_app, tmp_path):
    wanted = ball("oblique", middle("oblique"), 4)
    answer, _ = label_app.client.infer(
        "lefusion_lidc", "oblique", save_mask(tmp_path, wanted, GRIDS["oblique"][0]), steps=1
    )
    np.testing.assert_array_equal(stored_of(answer), wanted)


def test_one_request_paints_the_same_at_any_time_and_another_seed_paints_otherwise(label_app, tmp_path):
    mask = save_mask(tmp_path, ball("oblique", middle("oblique"), 4), GRIDS["oblique"][0])

    def paint(seed: int) -> np.ndarray:
        return stored_of(
            label_app.client.infer("lefusion_lidc", "oblique", mask, seed=seed, steps=1, result="image")[0]
        )

    first, other, again = paint(3), paint(4), paint(3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("textures", [["solid", "ground_glass"], "solid, ground_glass"])
def test_each_lesion_gets_its_own_texture_from_the_feet_to_the_head(label_app, tmp_path, textures):
    low, high = (ball("anisotropic", (k, 22, 20), 4) for k in (4, 12))  # the first axis leads to the head
    mask = save_mask(tmp_path, low | high, GRIDS["anisotropic"][0])
    _, told = label_app.client.infer("lefusion_lidc", "anisotropic", mask, textures=textures, steps=1)
    specs = [lesion["spec"] for lesion in told["lesions"]]
    assert [spec["texture"] for spec in specs] == ["solid", "ground_glass"]
    assert specs[0]["centre_mm"][2] < specs[1]["centre_mm"][2]


def test_several_clicks_make_several_lesions(label_app):
    clicks = [[8, 12, 12], [8, 32, 28]]
    answer, told = label_app.client.infer("diffmask", "anisotropic", foreground=clicks, radius=[4, 6], background="[]")
    assert [mask["spec"]["radius_mm"] for mask in told["lesions"]] == [4, 6]
    mask = stored_of(answer) > 0
    assert mask[:, :22].any() and mask[:, 22:].any()


def test_heart_classes_are_told_by_the_names_of_the_segments(label_app, tmp_path):
    truth = ring()
    numbers = {3: 1, 4: 2, 1: 4, 2: 3}  # as 3D Slicer numbers segments: by their order
    sent = np.select([truth == value for value in numbers], list(numbers.values()))
    names = ["MI", "pmo", "myocardium", "cavity", "lesion"]
    answer, told = label_app.client.infer(
        "lefusion_emidec",
        "heart",
        save_mask(tmp_path, sent, affine_of()),
        label_info=[{"name": name, "id": number} for number, name in enumerate(names, start=1)],
        texture_mi="strong",
        steps=1,
    )
    np.testing.assert_array_equal(stored_of(answer), truth)
    assert told["label_names"] == {"cavity": 1, "myocardium": 2, "mi": 3, "pmo": 4}
    textures = {lesion["spec"]["lesion_class"]: lesion["spec"]["texture"] for lesion in told["lesions"]}
    assert textures["mi"] == "strong"
    before = stored_of(label_app.studies / "heart.nii.gz")
    after = stored_of(label_app.studies / f"{told['sample']}.nii.gz")
    changed = after != before
    assert changed[truth >= 3].any() and not changed[truth < 3].any()


def test_a_segment_that_is_chosen_in_slicer_comes_back_alone(label_app, tmp_path):
    sent = save_mask(tmp_path, ring(), affine_of())
    answer, _ = label_app.client.infer("lefusion_emidec", "heart", sent, selected_label_name="pmo", steps=1)
    np.testing.assert_array_equal(stored_of(answer), ring() == 4)


def test_what_slicers_scribbles_brush_painted_belongs_to_the_chosen_label(label_app, tmp_path):
    brush, eraser = ball("oblique", (20, 12, 12), 4), ball("oblique", (20, 26, 12), 4)
    names = ["lesion", "mi", "background_scribbles", "foreground_scribbles"]
    answer, _ = label_app.client.infer(
        "lefusion_lidc",
        "oblique",
        save_mask(tmp_path, brush * 4 + eraser * 3, GRIDS["oblique"][0]),
        label_info=[{"name": name, "id": number} for number, name in enumerate(names, start=1)],
        selected_label_name="lesion",
        steps=1,
    )
    np.testing.assert_array_equal(stored_of(answer), brush)


def test_other_segments_of_a_chest_are_not_painted(label_app, tmp_path):
    lesion, other = ball("oblique", (20, 14, 12), 4), ball("oblique", (20, 26, 12), 4)
    answer, told = label_app.client.infer(
        "lefusion_lidc",
        "oblique",
        save_mask(tmp_path, lesion * 2 + other * 1, GRIDS["oblique"][0]),
        label_info=[{"name": "rib", "id": 1}, {"name": "lesion", "id": 2}],
        steps=1,
    )
    assert len(told["lesions"]) == 1
    np.testing.assert_array_equal(stored_of(answer), lesion)


def test_saved_segmentation_is_painted_where_none_is_sent(label_app, tmp_path):
    image = label_app.studies / "anisotropic.nii.gz"
    label_app.client("upload_image", image, "segmented")
    wanted = ball("anisotropic", middle("anisotropic"), 5)
    mask = save_mask(tmp_path, wanted, GRIDS["anisotropic"][0])
    label_app.client("save_label", "segmented", mask, "original", {})
    # A client may send a segment's name as label: no file that the server received.
    answer, _ = label_app.client("infer", "lefusion_lidc", "segmented", {"label": "lesion", "steps": 1})
    np.testing.assert_array_equal(stored_of(answer), wanted)


def test_an_image_sent_along_is_painted_but_not_kept(label_app, tmp_path):
    affine, shape = GRIDS["oblique"]
    image = save_nifti(tmp_path / "new.nii.gz", stored_of(label_app.studies / "oblique.nii.gz"), affine)
    mask = save_mask(tmp_path, ball("oblique", middle("oblique"), 4), affine)
    before = set(label_app.client("datastore")["objects"])
    file, told = label_app.client("infer", "lefusion_lidc", "", {"steps": 1, "result": "image"}, mask, file=image)
    assert stored_of(file).shape == shape
    assert told["sample"] is None
    assert set(label_app.client("datastore")["objects"]) == before


def test_info_tells_clients_what_can_be_asked_for(label_app):
    info = label_app.client("info")
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "diffmask": "deepgrow",
        "lefusion_lidc": "scribbles",
        "lefusion_emidec": "scribbles",
    }
    assert info["models"]["lefusion_lidc"]["config"]["texture"][0] == "random"
    assert set(info["strategies"]) == {"newest", "first", "random"}
    assert set(info["trainers"]) == {"lefusion_lidc", "lefusion_emidec"}
