"""Dealing cases into folds: nobody is learnt from and held out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundle_runs import save_nifti
from reproduction_plans import made_up_cases

from custom_components.datasets import split_by_patient
from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.reproduction.folds import deal_folds, write_folds


def patients(cases: list[dict]) -> set[str]:
    return {case["patient"] for case in cases}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_patient_is_in_one_part_of_a_fold_and_held_out_once(count):
    cases = [{**case, "patient": case["patient"][:2]} for case in made_up_cases(40)]  # several cases a patient
    cases += made_up_cases(12, "q")
    folds = deal_folds(cases, [], [], count, 0.2)
    assert len(folds) == count
    for fold in folds:
        parts = [patients(fold[part]) for part in ("train", "val", "test")]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(patients(cases))
        assert sum(len(fold[part]) for part in ("train", "val", "test")) == len(cases)
    if count > 1:
        held_out = [case["case"] for fold in folds for case in fold["test"]]
        assert sorted(held_out) == sorted(case["case"] for case in cases)


def test_the_test_cases_of_a_data_set_are_what_is_held_out():
    (fold,) = deal_folds(made_up_cases(10), made_up_cases(3, "t"), [], 1, 0.1)
    assert patients(fold["test"]) == {"t00", "t01", "t02"}


def test_folds_do_not_depend_on_the_order_of_the_cases():
    cases = made_up_cases(15)
    first, second = deal_folds(cases, [], [], 3, 0.1), deal_folds(cases[::-1], [], [], 3, 0.1)
    assert [patients(fold["test"]) for fold in first] == [patients(fold["test"]) for fold in second]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_those_who_choose_weights_are_a_tenth_of_the_others_by_their_hash(count):
    for fold in deal_folds(made_up_cases(40), [], [], count, 0.1):
        others = [case for case in made_up_cases(40) if case["patient"] not in patients(fold["test"])]
        tenth = round(0.1 * len(others)) / len(others)
        assert fold["val"] == split_by_patient(others, tenth, "validation")
        assert fold["train"] == split_by_patient(others, tenth, "training")


def test_normal_cases_of_held_out_patients_are_left_out():
    cases = made_up_cases(12)
    normal = [{**case, "case": case["case"] + "_normal"} for case in cases] + made_up_cases(2, "n")
    for fold in deal_folds(cases, [], normal, 3, 0.1):
        assert patients(fold["normal"]) == patients(fold["train"]) | {"n00", "n01"}


def test_too_few_patients_are_refused():
    with pytest.raises(InputError, match="2 patients to train on"):
        deal_folds(made_up_cases(4), [], [], 2, 0.1)
    with pytest.raises(InputError, match="cannot be dealt into 9"):
        deal_folds(made_up_cases(4), [], [], 9, 0.1)


def save_data(root, count: int = 6):
    """Lesions of one voxel; the last case has none."""
    for number in range(count):
        label = np.zeros((4, 4, 4), np.uint8)
        label[1, 1, 1] = number < count - 1
        save_nifti(root / "Pathological" / "images" / f"c{number}.nii.gz", label.astype(np.int16))
        save_nifti(root / "Pathological" / "labels" / f"c{number}.nii.gz", label)
    return root


def write(data, folder, normals: bool = False):
    return write_folds(data, folder, LesionLabels(), 1, 0.1, "lungs", normals)


def test_datalists_hold_the_cases_with_lesions_by_absolute_paths(tmp_path):
    data = save_data(tmp_path / "data")
    (fold,) = write(data, tmp_path / "folds")
    cases = [
        c for part in ("train", "val", "test") for c in json.loads((fold.path(part) / "datalist.json").read_text())
    ]
    assert sorted(case["case"] for case in cases) == [f"c{number}" for number in range(5)]
    assert all(case["image"].startswith(str(tmp_path)) for case in cases)
    assert fold.counts == {"train": 3, "val": 1, "test": 1, "normal": 0}


def test_data_that_has_changed_is_refused(tmp_path):
    data = save_data(tmp_path / "data")
    write(data, tmp_path / "folds")
    write(data, tmp_path / "folds")
    save_data(data, count=8)
    with pytest.raises(InputError, match="are not those that"):
        write(data, tmp_path / "folds")


def test_missing_normal_cases_are_told_where_they_are_needed(tmp_path):
    with pytest.raises(InputError, match="no folder Normal"):
        write(save_data(tmp_path / "data"), tmp_path / "folds", normals=True)
