"""A synthetic data set that is as recorded, and damage to its files, manifest and sidecars."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from damaged_sets import TWO_CLASSES, edit, findings, only
from recorded_sets import write_scans, write_set

from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.synthesis.layouts import LAYOUTS
from custom_components.synthesis.records import read_manifest, write_manifest
from custom_components.synthesis.verification import verify_set


@pytest.fixture
def copied(tmp_path) -> tuple[Path, Path]:
    """A set to damage, cases a and b, and the scans it was made from."""
    scans = write_scans(tmp_path / "copy" / "scans")
    write_set(tmp_path / "copy" / "set", scans)
    return tmp_path / "copy" / "set", scans


@pytest.mark.parametrize("labels", [LesionLabels(), TWO_CLASSES], ids=["one class", "two classes"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_untouched_set_has_no_findings(tmp_path, layout, labels):
    scans = write_scans(tmp_path / "scans", ("a", "b.c d"))
    write_set(tmp_path / "set", scans, layout, labels, cases_per_scan=2)
    assert findings(tmp_path / "set") == []


def test_folder_without_manifest_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no synthetic data set: it holds no manifest\.jsonl"):
        verify_set(tmp_path)


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("role", ["images", "labels", "instances"])
def test_missing_volume_is_found(copied, role):
    (copied[0] / role / "a.nii.gz").unlink()
    assert only(copied[0]) == (f"{role}/a.nii.gz", "is missing.")


def test_missing_panel_is_found(copied):
    (copied[0] / "panels" / "a.png").unlink()
    assert only(copied[0]) == ("panels/a.png", "is missing.")


def test_missing_sidecar_is_found_once(copied):
    (copied[0] / "sidecars" / "a.json").unlink()
    assert only(copied[0]) == ("sidecars/a.json", "is missing.")


def test_changed_file_is_found_by_its_hash(copied):
    (copied[0] / "panels" / "a.png").write_bytes(b"another picture")
    assert only(copied[0]) == ("panels/a.png", "has changed: its SHA-256 is not the recorded one.")


def test_truncated_volume_is_no_traceback(copied):
    path = copied[0] / "images" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    (_, changed), (name, unreadable) = findings(copied[0])
    assert "has changed" in changed
    assert name == "images/a.nii.gz"
    assert unreadable.startswith("cannot be read")


def test_file_outside_the_set_is_found(copied):
    root, _ = copied
    records = read_manifest(root)
    shutil.copy(root / "panels" / "a.png", root.parent / "a.png")
    records[0]["files"]["panel"] = "../a.png"
    edit(root / "sidecars" / "a.json", lambda sidecar: sidecar["files"]["panel"].update(path="../a.png"))
    write_manifest(root, records)
    assert findings(root) == [
        ("panels/a.png", "belongs to no case of the manifest."),
        ("../a.png", "lies outside the set."),
    ]


@pytest.mark.parametrize("name", ["images/c.nii.gz", "sidecars/c.json", "panels/sub/c.png"])
def test_file_of_no_case_is_found(copied, name):
    (copied[0] / name).parent.mkdir(exist_ok=True)
    (copied[0] / name).write_bytes(b"?")
    assert only(copied[0]) == (name, "belongs to no case of the manifest.")


@pytest.mark.parametrize("name", ["images/.partial-1-2-c.nii.gz", ".partial-1-2-manifest.jsonl"])
def test_unfinished_file_is_found(copied, name):
    (copied[0] / name).write_bytes(b"?")
    assert only(copied[0]) == (name, "was left unfinished by a run that was stopped.")


def test_what_people_and_desktops_add_is_no_finding(copied):
    for name in ("notes.txt", "gallery.html", "failed.jsonl", "images/.DS_Store"):
        (copied[0] / name).write_text("?")
    assert findings(copied[0]) == []


def test_case_that_the_manifest_lacks_is_found(copied):
    write_manifest(copied[0], read_manifest(copied[0])[:1])
    assert {name for name, _ in findings(copied[0])} == {
        "images/b.nii.gz",
        "instances/b.nii.gz",
        "labels/b.nii.gz",
        "panels/b.png",
        "sidecars/b.json",
    }


def test_case_told_twice_is_found(copied):
    records = read_manifest(copied[0])
    write_manifest(copied[0], [*records, records[0]])
    assert findings(copied[0]) == [("manifest.jsonl", "tells of case 'a' 2 times.")]


def test_file_of_two_cases_is_found(copied):
    records = read_manifest(copied[0])
    records[1]["files"]["panel"] = records[0]["files"]["panel"]
    write_manifest(copied[0], records)
    assert ("panels/a.png", "belongs to 2 cases: a, b.") in findings(copied[0])


@pytest.mark.parametrize("key", ["files", "sha256", "lesions", "source", "source_sha256", "scan"])
def test_record_that_lacks_something_is_found(copied, key):
    records = read_manifest(copied[0])
    del records[1][key]
    write_manifest(copied[0], records)
    assert any(name == "manifest.jsonl" and "line 2" in sentence for name, sentence in findings(copied[0]))


def test_record_without_a_file_or_its_hash_is_found(copied):
    records = read_manifest(copied[0])
    del records[0]["files"]["instances"]
    del records[1]["sha256"]["panel"]
    write_manifest(copied[0], records)
    assert findings(copied[0])[:2] == [
        ("manifest.jsonl", "has no file 'instances' in line 1."),
        ("manifest.jsonl", "has no sha256 of 'panel' in line 2."),
    ]


def test_lesion_that_lacks_something_in_the_manifest_is_found(copied):
    records = read_manifest(copied[0])
    del records[0]["lesions"][1]["texture"]
    write_manifest(copied[0], records)
    assert findings(copied[0])[0] == ("manifest.jsonl", "has a lesion without 'texture' in line 1.")


def test_missing_or_wrong_document_of_the_layout_is_found(tmp_path):
    write_set(tmp_path / "set", write_scans(tmp_path / "scans"), "monai")
    edit(tmp_path / "set" / "datalist.json", lambda content: content.update(reference="added by hand"))
    assert findings(tmp_path / "set") == []
    edit(tmp_path / "set" / "datalist.json", lambda content: content["training"].pop())
    assert only(tmp_path / "set") == ("datalist.json", "does not say what follows from the manifest.")
    (tmp_path / "set" / "datalist.json").unlink()
    assert only(tmp_path / "set") == ("datalist.json", "is missing: layout monai has it.")


def test_table_of_the_layout_is_compared_and_a_readme_of_one_s_own_is_not(tmp_path):
    root = tmp_path / "set"
    write_set(root, write_scans(tmp_path / "scans"), "bids")
    (root / "README.md").write_text("What we use it for")
    assert findings(root) == []
    with (root / "participants.tsv").open("a") as stream:
        stream.write("sub-c\tc\tc\t1\n")
    (root / "participants.json").write_text("{")
    assert sorted(findings(root)) == [
        ("participants.json", "does not say what follows from the manifest."),
        ("participants.tsv", "does not say what follows from the manifest."),
    ]


def test_record_of_the_run_without_layout_is_found_and_the_rest_checked(copied):
    edit(copied[0] / "synthesis.json", lambda run: run.pop("layout"))
    (copied[0] / "panels" / "a.png").unlink()
    assert [name for name, _ in findings(copied[0])] == ["synthesis.json", "panels/a.png"]


# ----------------------------------------------------------------------------------------- sidecar


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.update(synthetic=False), "does not say that the scan is synthetic."),
        (lambda s: s.update(generator="LeFusion"), "does not tell the version it was made with."),
        (lambda s: s.pop("generator"), "does not tell the version it was made with."),
        (lambda s: s["generator"].update(version="0.0.1"), "was made with version 0.0.1, the set with "),
        (lambda s: s.update(max_abs_difference_outside_mask=1), "does not say that voxels outside"),
        (lambda s: s["source"].update(sha256="0"), "disagrees with the manifest about source_sha256."),
        (lambda s: s["lesions"][0]["spec"].update(texture="none"), "disagrees with the manifest about lesions."),
        (lambda s: s["synthesis"].update(case="b"), "disagrees with the manifest about case."),
        (lambda s: s.pop("synthesis"), "lacks 'synthesis'"),
        (lambda s: s["lesions"][0]["spec"].pop("box"), "tells too little of its lesions (KeyError('box'))."),
        (lambda s: s["lesions"][0]["spec"].update(voxels=9), "tells of 9 voxels of lesion 1 (lesion), the label map "),
        (lambda s: s["lesions"][0]["spec"].update(box=[[3, 6], [3, 7], [2, 6]]), "another box than the label map."),
    ],
)
def test_sidecar_that_tells_something_else_is_found(copied, change, sentence):
    edit(copied[0] / "sidecars" / "a.json", change)
    name, found = only(copied[0])
    assert name == "sidecars/a.json"
    assert sentence in found


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("centre_mm", [0, 0, 0], "gives lesion 1 (lesion) another centre than that of its box."),
        ("volume_mm3", 3.0, "gives lesion 1 (lesion) a volume of 3.0 mm3, it has "),
        ("radius_mm", 3.0, "gives lesion 1 (lesion) a radius of 3.000 mm, which is not that of its volume."),
    ],
)
def test_wrong_size_or_place_in_sidecar_and_manifest_is_found(copied, key, value, sentence):
    edit(copied[0] / "sidecars" / "a.json", lambda s: s["lesions"][0]["spec"].update({key: value}))
    records = read_manifest(copied[0])
    records[0]["lesions"][0][key] = value
    write_manifest(copied[0], records)
    found = findings(copied[0])
    assert found[0][0] == "sidecars/a.json"
    assert sentence in found[0][1]


def test_sidecar_that_is_no_json_is_found(copied):
    (copied[0] / "sidecars" / "a.json").write_text("{")
    assert only(copied[0])[0] == "sidecars/a.json"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: e.update(mean_painted=0.0), "has a mean_painted of "),
        (lambda e: e.update(std_painted=0.0), "has a std_painted of "),
        (lambda e: e.update(achieved_histogram=np.eye(16)[2].tolist()), "another texture in lesion 2 (lesion)"),
    ],
)
def test_achieved_texture_that_the_file_does_not_have_is_found(copied, change, sentence):
    edit(copied[0] / "sidecars" / "a.json", lambda s: change(s["lesions"][1]))
    found = [text for name, text in findings(copied[0]) if name == "images/a.nii.gz"]
    assert any(sentence in text for text in found)


def test_histogram_distance_that_does_not_follow_from_the_histograms_is_found(copied):
    edit(copied[0] / "sidecars" / "a.json", lambda s: s["lesions"][1].update(histogram_distance=0.5))
    records = read_manifest(copied[0])
    records[0]["lesions"][1]["histogram_distance"] = 0.5
    write_manifest(copied[0], records)
    assert "histogram distance" in only(copied[0])[1]
