"""Mixtures of lists: how they are written, whom their cases belong to, and how they are parted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from segmentation_runs import save_manifest, save_nodules

from custom_components.case_lists import CaseList, mix_cases, parse_lists, read_lists, require_cases, split_lists
from custom_components.errors import InputError


def names(cases) -> list[str]:
    return [case["case"] for case in cases]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """``real``: patients a to e. ``painted``: two synthetic cases from the scan of each of a, b and from another, z."""
    root = tmp_path_factory.mktemp("sets")
    save_nodules(root / "real", "abcde", 12)
    painted = [f"{scan}_s{number}" for scan in "abz" for number in (1, 2)]
    save_nodules(root / "painted", painted, 12)
    save_manifest(root / "painted", {case: case[0] for case in painted})
    entries = [{"image": f"real/images/{n}.nii.gz", "label": f"real/labels/{n}.nii.gz"} for n in "abcde"]
    (root / "parts.json").write_text(json.dumps({"training": entries[:3], "test": entries[3:]}))
    return root


@pytest.mark.parametrize("text", ["[x/a.json#test*3,y]", ["x/a.json#test*3", "y"], "x/a.json::test*3, y"])
def test_list_names_a_path_a_section_and_repeats(text):
    assert parse_lists(text, "lists") == [CaseList(Path("x/a.json"), "test", 3), CaseList(Path("y"))]


@pytest.mark.parametrize("wrong", [[], "", [3], None, ["a*x"], ["a*0"]])
def test_what_is_no_list_is_refused_by_the_name_of_the_key(wrong):
    with pytest.raises(InputError, match="test_lists"):
        parse_lists(wrong, "test_lists")


def test_section_and_repeats_reach_the_cases(sets):
    (cases,) = read_lists(f"{sets}/parts.json#test*2", "lists")
    assert names(cases) == ["d", "e"]
    assert mix_cases(cases) == [0, 0, 1, 1]


def test_section_that_is_missing_is_named(sets):
    with pytest.raises(InputError, match="'held_out'"):
        read_lists(f"{sets}/parts.json#held_out", "lists")


@pytest.mark.parametrize(("path", "words"), [("real", "holds no datalist.json"), ("single.json", "is a single list")])
def test_section_of_what_has_none_is_refused(sets, path, words):
    (sets / "single.json").write_text(json.dumps(json.loads((sets / "parts.json").read_text())["test"]))
    with pytest.raises(InputError, match=f"{words}.*'training'"):
        read_lists(f"{sets}/{path}#training", "lists")


def test_list_that_does_not_exist_is_told_by_the_name_of_the_key(sets):
    with pytest.raises(InputError, match=r"train_lists: .*nowhere does not exist"):
        read_lists([f"{sets}/real", f"{sets}/nowhere"], "train_lists")


def test_synthetic_case_belongs_to_the_patient_of_its_scan(sets):
    real, painted = read_lists([f"{sets}/real", f"{sets}/painted"], "lists")
    assert not any("synthetic" in case for case in real)
    assert all(case["synthetic"] for case in painted)
    assert [case["patient"] for case in painted] == ["a", "a", "b", "b", "z", "z"]


def test_patient_of_a_datalist_is_that_of_cases_painted_into_its_scans(sets):
    entries = [{"image": "real/images/a.nii.gz", "label": "real/labels/a.nii.gz", "patient": "P1"}]
    (sets / "named.json").write_text(json.dumps(entries))
    _, painted = read_lists([f"{sets}/named.json", f"{sets}/painted"], "lists")
    assert [case["patient"] for case in painted][:3] == ["P1", "P1", "b"]


def test_set_painted_into_other_scans_belongs_to_their_patients(sets, tmp_path):
    (tmp_path / "normal.json").write_text(
        json.dumps([{"image": f"{sets}/real/images/c.nii.gz", "case": "z", "patient": "a"}])
    )
    (sets / "painted" / "synthesis.json").write_text(json.dumps({"input": str(tmp_path / "normal.json")}))
    try:
        training = split_lists("training", [f"{sets}/real", f"{sets}/painted"], val_patients=["a"])
    finally:
        (sets / "painted" / "synthesis.json").unlink()
    assert names(training) == [*"bcde", "b_s1", "b_s2"]


def test_nothing_of_a_held_out_patient_is_trained_on(sets):
    lists = [f"{sets}/real", f"{sets}/painted"]
    settings = {"train_lists": lists, "val_patients": ["a"]}
    assert names(split_lists("validation", **settings)) == ["a"]
    training = split_lists("training", **settings)
    assert names(training) == [*"bcde", "b_s1", "b_s2", "z_s1", "z_s2"]


def test_lists_of_their_own_are_taken_as_they_are(sets):
    settings = {"train_lists": f"{sets}/parts.json", "held_out_lists": f"{sets}/parts.json#test"}
    assert names(split_lists("training", **settings)) == ["a", "b", "c"]
    assert names(split_lists("validation", **settings)) == ["d", "e"]


def test_patient_on_both_sides_is_told(sets, capsys):
    split_lists("training", [f"{sets}/painted"], [f"{sets}/real"])
    assert "warning: 2 patients are in train_lists and in val_lists, a for one." in capsys.readouterr().err


def test_without_data_there_are_no_cases_and_training_says_so(tmp_path):
    assert split_lists("training", [str(tmp_path / "none")]) == []
    with pytest.raises(InputError, match=f"train_lists: {tmp_path}/none does not exist"):
        require_cases([], [str(tmp_path / "none")])
