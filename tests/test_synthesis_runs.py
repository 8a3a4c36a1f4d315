"""Whole sets made in this process: what is in the files, whatever masks come from."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import save_nifti
from synthesis_runs import Made, contents, make, save_painter
from synthetic_chests import affine, chest, lungs, save_chests

from custom_components.errors import InputError
from custom_components.files import file_hash, lock_folder
from custom_components.specs import find_lesions
from custom_components.synthesis.records import read_manifest
from custom_components.synthesis.runner import replay_case


@pytest.fixture(scope="module")
def painter(tmp_path_factory) -> dict:
    return save_painter(tmp_path_factory.mktemp("painter"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return save_chests(tmp_path_factory.mktemp("scans"), "ab")


@pytest.fixture(scope="module")
def drawn(painter, scans, tmp_path_factory) -> Path:
    """Two cases of each of two scans, lesions 1-2, the pictures drawn."""
    root = tmp_path_factory.mktemp("drawn") / "set"
    assert make(scans, root, painter, lesions="1-2", radius="5-8", cases_per_scan=2, texture="solid:1", seed=3) == []
    return root


def test_background_is_the_scan_bit_for_bit_and_labels_say_where_lesions_are(drawn, scans):
    for case in ("a_s1", "a_s2", "b_s1", "b_s2"):
        made, source = Made(drawn, case), nib.load(scans / f"{case[0]}.nii.gz")
        image, label, instances = (made.stored(role) for role in ("images", "labels", "instances"))
        assert np.array_equal(image[label == 0], chest("ab".index(case[0]))[label == 0])
        assert (image[label > 0] != chest("ab".index(case[0]))[label > 0]).mean() > 0.9
        assert np.array_equal(find_lesions(label > 0, source.affine)[0], instances)
        assert not label[~lungs()].any(), "inside the organ that was found"
        assert (
            nib.load(drawn / "images" / f"{case}.nii.gz").header["pixdim"].tolist() == source.header["pixdim"].tolist()
        )


def test_sidecar_and_manifest_tell_what_is_in_the_files(drawn, scans):
    records = read_manifest(drawn)
    assert [record["case"] for record in records] == ["a_s1", "a_s2", "b_s1", "b_s2"]
    for record in records:
        made = Made(drawn, record["case"])
        sidecar, instances = made.sidecar, made.stored("instances")
        origin = sidecar["synthesis"]
        assert (origin["case"], origin["scan"], origin["source"]) == (made.case, made.case[0], f"{made.case[0]}.nii.gz")
        assert (origin["mask_source"], origin["set"], origin["organ"]["source"]) == ("diffmask", None, "found")
        assert origin["organ"]["volume_ml"] == pytest.approx(lungs().sum() * 8 / 1000, rel=0.02)
        assert sidecar["source"]["sha256"] == record["source_sha256"] == file_hash(scans / origin["source"])
        assert sidecar["synthetic"] is True and sidecar["max_abs_difference_outside_mask"] == 0
        for role, file in sidecar["files"].items():
            assert file_hash(drawn / file["path"]) == file["sha256"] == record["sha256"][role]
        assert set(record["files"]) == {"image", "label", "instances", "panel", "sidecar"}
        assert [lesion["spec"]["lesion"] for lesion in sidecar["lesions"]] == list(range(1, instances.max() + 1))
        for site, lesion in zip(origin["sites"], sidecar["lesions"], strict=True):
            spec = lesion["spec"]
            assert site["lesion"] == spec["lesion"] and 5 <= site["radius_mm"] <= 8
            assert np.linalg.norm(np.subtract(site["centre_mm"], spec["centre_mm"])) < 5
            assert (instances == spec["lesion"]).sum() == spec["voxels"]
            assert spec["texture"] == "solid"


def test_cases_of_a_scan_differ(drawn):
    sites = [Made(drawn, case).sidecar["synthesis"]["sites"] for case in ("a_s1", "a_s2")]
    assert sites[0] != sites[1]


def test_the_same_command_again_changes_nothing_and_another_one_is_refused(drawn, scans, painter):
    before = contents(drawn)
    times = {path: path.stat().st_mtime_ns for path in (drawn / "images").iterdir()}
    same = {"lesions": "1-2", "radius": "5-8", "cases_per_scan": 2, "texture": "solid:1"}
    assert make(scans, drawn, painter, **same, seed=3) == []
    assert contents(drawn) == before
    assert {path: path.stat().st_mtime_ns for path in (drawn / "images").iterdir()} == times
    for change in ({"seed": 4}, {"batch_size": 2}, {"layout": "monai"}, {"texture": "solid:2"}):
        with pytest.raises(
            InputError, match=f"made with command {next(iter(change)) if 'texture' not in change else ''}"
        ):
            make(scans, drawn, painter, **{**same, "seed": 3, **change})
    assert contents(drawn) == before


def test_a_set_that_another_process_works_on_is_left_alone(painter, scans, tmp_path):
    root = tmp_path / "set"
    with lock_folder(root):
        (root / ".partial-1-2-a.nii.gz").write_text("half a file of the other process")
        for overwrite in (False, True):
            with pytest.raises(InputError, match="another process is still at work in"):
                make(scans, root, painter, lesions="1-2", radius="5-8", overwrite=overwrite)
        assert [path.name for path in root.iterdir()] == [".partial-1-2-a.nii.gz"]


def test_missing_cases_are_completed_to_the_same_bytes(drawn, scans, painter, tmp_path):
    expected = contents(drawn)
    (drawn / "sidecars" / "a_s2.json").unlink()
    (drawn / "images" / "b_s1.nii.gz").unlink()
    (drawn / "images" / ".partial-1-2-a_s2.nii.gz").write_bytes(b"half")
    (drawn / "manifest.jsonl").unlink()
    make(scans, drawn, painter, lesions="1-2", radius="5-8", cases_per_scan=2, texture="solid:1", seed=3)
    assert contents(drawn) == expected


def test_a_case_is_made_again_from_the_record_of_its_run(drawn, tmp_path):
    files = replay_case(drawn, "b_s2", tmp_path / "again")
    again, first = contents(tmp_path / "again"), contents(drawn)
    assert len(again) == 5 and files["image"].is_file()
    assert all(first[name] == content for name, content in again.items())
    with pytest.raises(InputError, match="no scan for case c"):
        replay_case(drawn, "c", tmp_path / "none")


def test_failing_scans_are_reported_and_skipped(painter, tmp_path):
    save_chests(tmp_path / "in", "b")
    (tmp_path / "in" / "a.nii.gz").write_bytes((tmp_path / "in" / "b.nii.gz").read_bytes()[:5000])
    nan = chest(0).astype(np.float32)
    nan[1, 2, 3] = np.nan
    save_nifti(tmp_path / "in" / "c.nii.gz", nan, affine())
    water = np.full((30, 30, 30), 30, np.int16)
    water[0] = -1000
    save_nifti(tmp_path / "in" / "d.nii.gz", water, affine())
    failures = make(tmp_path / "in", tmp_path / "set", painter, radius=6)
    assert [failure["case"] for failure in failures] == ["a", "c", "d"]
    for failure, word in zip(failures, ("cannot read", "NaN", "organ_mask"), strict=True):
        assert word in failure["error"]
    lines = [json.loads(line) for line in (tmp_path / "set" / "failed.jsonl").read_text().splitlines()]
    assert lines == failures
    assert [record["case"] for record in read_manifest(tmp_path / "set")] == ["b"]
    assert {path.split("/")[-1].split(".")[0] for path in contents(tmp_path / "set") if "/" in path} == {"b"}
    for name in "acd":
        (tmp_path / "in" / f"{name}.nii.gz").unlink()
    assert make(tmp_path / "in", tmp_path / "set", painter, radius=6) == []
    assert not (tmp_path / "set" / "failed.jsonl").exists()


def test_overwrite_begins_anew_without_the_earlier_cases(painter, scans, tmp_path):
    given = {"set": "copy_paste", "library": save_library(tmp_path / "real")}
    make(scans, tmp_path / "set", painter, **given, cases_per_scan=2)
    make(scans, tmp_path / "set", painter, **given, overwrite=True, seed=1)
    assert [record["case"] for record in read_manifest(tmp_path / "set")] == ["a", "b"]
    assert sorted(path.name for path in (tmp_path / "set" / "images").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no set of synthesize"):
        make(scans, tmp_path / "other", painter, **given)


def save_library(folder: Path) -> Path:
    """A scan with two cubes of +100 HU as lesions."""
    values, label = chest(7), np.zeros_like(chest(7), dtype=np.uint8)
    for x in (20, 64):
        label[x : x + 5, 28:33, 30:35] = 1
    values[label > 0] = 100
    save_nifti(folder / "images" / "real.nii.gz", values, affine())
    save_nifti(folder / "labels" / "real.nii.gz", label, affine())
    return folder


def test_copy_paste_puts_real_intensities_where_the_copied_masks_are(painter, scans, tmp_path):
    make(scans, tmp_path / "set", painter, set="copy_paste", library=save_library(tmp_path / "real"))
    made = Made(tmp_path / "set", "a")
    label, image = made.stored("labels"), made.stored("images")
    assert 0 < label.sum() <= 125 and (image[label > 0] == 100).all()
    assert np.array_equal(image[label == 0], chest(0)[label == 0])
    (lesion,), (site,) = made.sidecar["lesions"], made.sidecar["synthesis"]["sites"]
    assert lesion["spec"]["texture"] == "copied" and lesion["mean_painted"] == 100
    assert site["library_lesion"] in ("real_1", "real_2")
    assert made.sidecar["weights"] is None and made.sidecar["synthesis"]["mask_weights"] is None


@pytest.mark.parametrize("masks", ["copy", "handcrafted"])
def test_masks_of_other_sources_are_painted(masks, painter, scans, tmp_path):
    given = {"library": save_library(tmp_path / "real")} if masks == "copy" else {"radius": 6}
    make(scans, tmp_path / "set", painter, masks=masks, lesions=2, **given)
    made = Made(tmp_path / "set", "b")
    assert made.stored("instances").max() == 2
    assert made.sidecar["synthesis"]["mask_source"] == masks
    assert made.sidecar["weights"] is not None and made.sidecar["synthesis"]["mask_weights"] is None


def test_real_lesions_are_repainted_where_they_are(painter, tmp_path):
    data = save_library(tmp_path / "real")
    make(data, tmp_path / "set", painter, set="P'", panel=False)
    made = Made(tmp_path / "set", "real")
    label = nib.load(data / "labels" / "real.nii.gz").get_fdata()
    assert np.array_equal(made.stored("labels"), label)
    assert made.sidecar["synthesis"]["source"] == "images/real.nii.gz"
    assert made.sidecar["synthesis"]["organ"]["source"] == "none" and made.sidecar["synthesis"]["sites"] == []
    assert (made.stored("images")[label > 0] != 100).mean() > 0.9
    assert "panel" not in made.sidecar["files"] and not (tmp_path / "set" / "panels").exists()


def test_an_organ_mask_says_where_lesions_lie(painter, scans, tmp_path):
    left = lungs()
    left[: left.shape[0] // 2] = False
    for name in "ab":
        save_nifti(tmp_path / "organs" / f"{name}.nii.gz", (5 * left).astype(np.uint8), affine())
    given = {"radius": 5, "lesions": 2, "organ_mask": tmp_path / "organs"}
    make(scans, tmp_path / "set", painter, **given, organ_labels=[5])
    made = Made(tmp_path / "set", "a")
    assert not made.stored("labels")[~left].any()
    organ = made.sidecar["synthesis"]["organ"]
    assert (organ["source"], organ["file"]) == ("given", "a.nii.gz")
    failures = make(scans, tmp_path / "none", painter, **given, organ_labels=[7])
    assert len(failures) == 2 and "none of the labels [7]" in failures[0]["error"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texture": "purple"}, "unknown texture 'purple'"),
        ({"texture": "purple:1"}, "unknown texture 'purple'"),
        ({"radius": 20}, "radius must be at most 16 mm"),
        ({"layout": "zip"}, "layout must be one of"),
        ({"mask_config": "emidec"}, "masks of 2 classes"),
        ({"bundle": "lefusion_emidec"}, "--organ_mask must give"),
        ({"bundle": "nothing"}, "bundle nothing"),
        ({"set": "P'"}, "has no label maps"),
        ({"organ_mask": "/nowhere"}, "organ_mask /nowhere does not exist"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(given, message, scans, painter, tmp_path):
    own = {} if "bundle" in given else painter
    with pytest.raises(InputError, match=message):
        make(scans, tmp_path / "set", own, **given)
    assert not (tmp_path / "set").exists()
