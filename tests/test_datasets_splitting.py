"""Cases are split by patient into those to learn from and those held out."""

from __future__ import annotations

import random

import pytest

from custom_components.datasets import list_cases, split_by_patient
from custom_components.errors import InputError


def cohort(patients: int = 40, scans: int = 3) -> list[dict]:
    return [{"patient": f"P{p:03d}", "case": f"P{p:03d}_{s}"} for s in range(scans) for p in range(patients)]


def names(cases: list[dict], key: str = "case") -> set[str]:
    return {case[key] for case in cases}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_split_is_disjoint_by_patient_complete_and_of_the_asked_size(fraction):
    cases = cohort()
    training = split_by_patient(cases, fraction, "training")
    validation = split_by_patient(cases, fraction, "validation")
    assert names(training, "patient").isdisjoint(names(validation, "patient"))
    assert names(training) | names(validation) == names(cases)
    assert len(training) + len(validation) == len(cases)
    assert len(names(validation, "patient")) == round(40 * fraction)


def test_split_is_the_same_in_any_order_and_keeps_the_order_given():
    cases = cohort()
    shuffled = random.Random(1).sample(cases, len(cases))
    assert names(split_by_patient(shuffled, 0.25)) == names(split_by_patient(cases, 0.25))
    kept = split_by_patient(shuffled, 0.25)
    assert [shuffled.index(case) for case in kept] == sorted(shuffled.index(case) for case in kept)


def test_split_is_not_moved_by_global_generators():
    random.seed(1)
    first = split_by_patient(cohort(), 0.25, "validation")
    random.seed(2)
    assert split_by_patient(cohort(), 0.25, "validation") == first


def test_larger_validation_share_contains_the_smaller_one():
    small, large = (names(split_by_patient(cohort(), f, "validation")) for f in (0.1, 0.3))
    assert small < large


def test_split_does_not_follow_the_alphabet():
    held_out = sorted(names(split_by_patient(cohort(), 0.25, "validation"), "patient"))
    assert held_out != [f"P{p:03d}" for p in range(10)]
    assert held_out != [f"P{p:03d}" for p in range(30, 40)]


@pytest.mark.parametrize("section", ["training", "validation"])
def test_no_cases_are_split_into_none(section):
    assert split_by_patient([], 0.25, section) == []


def test_zero_fraction_holds_nobody_out():
    assert split_by_patient(cohort(4), 0) == cohort(4)
    assert split_by_patient(cohort(4), 0, "validation") == []


def test_named_patients_are_held_out_in_place_of_the_fraction():
    held_out = split_by_patient(cohort(), 0.25, "validation", ["P001", "P005", "P999"])
    assert names(held_out, "patient") == {"P001", "P005"}
    assert len(held_out) == 6
    training = split_by_patient(cohort(), 0.25, "training", ["P001", "P005", "P999"])
    assert names(training, "patient") == {f"P{p:03d}" for p in range(40)} - {"P001", "P005"}


@pytest.mark.parametrize("val_patients", [None, [], ["P999"]])
def test_data_of_other_patients_are_split_by_the_fraction(val_patients):
    assert split_by_patient(cohort(), 0.25, "validation", val_patients) == split_by_patient(
        cohort(), 0.25, "validation"
    )


def test_patients_that_are_numbers_can_be_named():
    cases = [{"patient": number, "case": str(number)} for number in range(4)]
    assert split_by_patient(cases, 0.25, "validation", ["2"]) == split_by_patient(cases, 0.25, "validation", [2])
    assert names(split_by_patient(cases, 0.25, "validation", [2])) == {"2"}


def test_naming_every_patient_leaves_none_to_train_on():
    with pytest.raises(InputError, match="no patient is left for training"):
        split_by_patient(cohort(patients=2), 0.25, "training", ["P000", "P001"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((0.2, "test"), "section.*'test'"),
        ((1.0, "training"), "val_fraction.*1.0"),
        ((-0.1, "training"), "val_fraction.*-0.1"),
        ((float("nan"), "training"), "val_fraction"),
        ((0.1, "validation"), "no patient is left for validation"),
        ((0.9, "training"), "no patient is left for training"),
    ],
)
def test_impossible_split_is_refused_naming_the_fault(arguments, fault):
    with pytest.raises(InputError, match=fault):
        split_by_patient(cohort(patients=3), *arguments)


def test_real_patients_are_split_without_overlap(data_dir):
    folder = data_dir / "lidc_nodules"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    cases = list_cases(folder)
    sections = [split_by_patient(cases, 0.25, section) for section in ("training", "validation")]
    assert names(sections[0], "patient").isdisjoint(names(sections[1], "patient"))
    assert sum(map(len, sections)) == len(cases)
