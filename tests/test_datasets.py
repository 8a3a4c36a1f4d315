"""Finding, splitting and drawing cases."""

from __future__ import annotations

import itertools
import json
import random

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Randomizable, Transform

from custom_components.datasets import (
    ReproducibleDataset,
    find_cases,
    list_cases,
    require_cases,
    split_by_patient,
    with_lesions,
)
from custom_components.errors import InputError
from custom_components.labels import LesionLabels

# ----------------------------------------------------------------------------------------- listing


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_and_labels_are_paired_by_name(tmp_path):
    touch(*(tmp_path / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in ("b", "a")))
    touch(tmp_path / "images" / "notes.txt", tmp_path / "labels" / "unused.nii.gz")
    cases = list_cases(tmp_path)
    assert [case["case"] for case in cases] == ["a", "b"]
    assert cases[0]["image"] == str(tmp_path / "images" / "a.nii.gz")
    assert cases[0]["label"] == str(tmp_path / "labels" / "a.nii.gz")
    assert cases[0]["patient"] == "a"


def test_image_may_be_uncompressed_or_a_dicom_folder(tmp_path):
    touch(tmp_path / "images" / "a.nii", tmp_path / "images" / "b" / "1.dcm")
    touch(tmp_path / "labels" / "a.nii.gz", tmp_path / "labels" / "b.nii")
    cases = list_cases(str(tmp_path))
    assert [(case["case"], case["image"]) for case in cases] == [
        ("a", str(tmp_path / "images" / "a.nii")),
        ("b", str(tmp_path / "images" / "b")),
    ]


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"name": "x", "training": entries}])
@pytest.mark.parametrize("given", ["folder", "file"])
def test_datalist_paths_are_relative_to_its_file_and_keys_are_kept(tmp_path, wrap, given):
    touch(tmp_path / "scans" / "one.nii.gz", tmp_path / "scans" / "one_seg.nii.gz")
    absolute = tmp_path / "elsewhere" / "two.nii.gz"
    touch(absolute)
    entries = [
        {"image": "scans/one.nii.gz", "label": "scans/one_seg.nii.gz", "patient": "P1", "texture": 5},
        {"image": str(absolute), "label": "scans/one_seg.nii.gz", "case": "second"},
    ]
    file = tmp_path / "datalist.json"
    file.write_text(json.dumps(wrap(entries)))
    first, second = list_cases(tmp_path if given == "folder" else file)
    assert first == {
        "image": str(tmp_path / "scans" / "one.nii.gz"),
        "label": str(tmp_path / "scans" / "one_seg.nii.gz"),
        "case": "one",
        "patient": "P1",
        "texture": 5,
    }
    assert second["image"] == str(absolute)
    assert (second["case"], second["patient"]) == ("second", "second")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.* does not exist"):
        list_cases(tmp_path / "nowhere")


def test_folder_without_images_or_datalist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither a datalist\.json nor an images"):
        list_cases(tmp_path)


@pytest.mark.parametrize("labels", [True, False])
def test_image_without_label_is_named(tmp_path, labels):
    touch(tmp_path / "images" / "a.nii.gz")
    if labels:
        touch(tmp_path / "labels" / "other.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz has no label"):
        list_cases(tmp_path)


def test_empty_images_folder_holds_no_cases(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="holds no cases"):
        list_cases(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[", "cannot read the datalist"),
        (b"\x1f\x8b\x08\x00", "cannot read the datalist"),
        ('{"validation": []}', "must hold a list"),
        ("7", "must hold a list"),
        ("[]", "holds no cases"),
        ('[{"image": "a.nii.gz", "label": "a.nii.gz"}, {"image": "a.nii.gz"}]', "entry 1 .*'label'"),
        ('["a.nii.gz"]', "entry 0 .*'image'"),
        (
            '[{"image": "a.nii.gz", "label": "gone.nii.gz"}]',
            r"label .*gone\.nii\.gz of case a does not exist",
        ),
        (
            '[{"image": "gone.nii.gz", "label": "a.nii.gz"}]',
            r"image .*gone\.nii\.gz of case gone does not exist",
        ),
        pytest.param('[{"image": 3, "label": "a.nii.gz"}]', "entry 0"),
    ],
)
def test_bad_datalist_is_refused_naming_the_fault(tmp_path, content, fault):
    touch(tmp_path / "a.nii.gz")
    file = tmp_path / "datalist.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=fault):
        list_cases(tmp_path)


def test_real_nodules_are_listed_with_their_patients(data_dir):
    folder = data_dir / "lidc_nodules"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    cases = list_cases(folder)
    assert len(cases) == len(list((folder / "images").glob("*.nii.gz")))
    assert {case["case"] + ".nii.gz" for case in cases} == {path.name for path in (folder / "images").iterdir()}
    assert all(case["case"].startswith(case["patient"]) for case in cases)


def test_one_image_and_its_mask_take_the_place_of_the_data_set(tmp_path):
    touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz")
    assert find_cases(tmp_path) == list_cases(tmp_path)
    assert find_cases(tmp_path, "scans/x.nii.gz", "scans/y.nii.gz") == [
        {"image": "scans/x.nii.gz", "label": "scans/y.nii.gz", "case": "x", "patient": "x"}
    ]


@pytest.mark.parametrize(("given", "missing"), [("image", "mask"), ("mask", "image")])
def test_image_and_mask_go_together(tmp_path, given, missing):
    with pytest.raises(InputError, match=f"{missing} is missing"):
        find_cases(tmp_path, **{given: "a.nii.gz"})


def test_missing_data_set_gives_no_cases_until_they_are_required(tmp_path):
    assert find_cases(tmp_path / "nowhere") == []
    require_cases([{"case": "a"}], tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        require_cases([], tmp_path / "nowhere")


def test_groups_of_a_folder_are_listed_together_each_case_with_its_group(tmp_path):
    for group, names_of in (("Sick", "ab"), ("Healthy", "c")):
        touch(*(tmp_path / group / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in names_of))
    touch(tmp_path / "Notes" / "readme.txt")
    cases = list_cases(tmp_path)
    assert [(case["case"], case["patient"], case["group"]) for case in cases] == [
        ("c", "c", "Healthy"),
        ("a", "a", "Sick"),
        ("b", "b", "Sick"),
    ]
    assert cases[1]["image"] == str(tmp_path / "Sick" / "images" / "a.nii.gz")
    assert cases[1]["label"] == str(tmp_path / "Sick" / "labels" / "a.nii.gz")


def test_a_case_of_a_group_needs_its_label_too(tmp_path):
    touch(tmp_path / "Sick" / "images" / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz has no label of the same name in .*Sick"):
        list_cases(tmp_path)


def test_folder_with_images_of_its_own_is_no_folder_of_groups(tmp_path):
    touch(*(tmp_path / kind / "a.nii.gz" for kind in ("images", "labels", "Sick/images", "Sick/labels")))
    assert [case["case"] for case in list_cases(tmp_path)] == ["a"]
    assert "group" not in list_cases(tmp_path)[0]


# ----------------------------------------------------------------------------------------- cases with lesions

HEART = LesionLabels({"scar": 3, "core": 4}, {"pool": 1, "wall": 2})


def label_case(folder, name: str, *values: int) -> dict:
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(np.array(values, dtype=np.uint8).reshape(-1, 1, 1), np.eye(4)), path)
    return {"case": name, "label": str(path)}


def test_cases_with_a_lesion_of_any_class_are_kept_in_order(tmp_path):
    cases = [
        label_case(tmp_path, "core", 0, 1, 4),
        label_case(tmp_path, "normal", 0, 1, 2),
        label_case(tmp_path, "scar", 0, 3, 2),
    ]
    assert [case["case"] for case in with_lesions(cases, HEART)] == ["core", "scar"]
    assert [case["case"] for case in with_lesions(cases, LesionLabels({"pool": 1}))] == ["core", "normal"]


def test_data_set_without_any_lesion_is_told(tmp_path):
    cases = [label_case(tmp_path, name, 0, 1, 2) for name in "ab"]
    with pytest.raises(InputError, match=r"none of the 2 label maps holds a lesion \(scar = 3, core = 4\)"):
        with_lesions(cases, HEART)
    assert with_lesions([], HEART) == []


def test_label_map_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "torn.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"cannot read label .*torn\.nii\.gz"):
        with_lesions([{"case": "torn", "label": str(tmp_path / "torn.nii.gz")}], HEART)


# ----------------------------------------------------------------------------------------- splitting


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


# ----------------------------------------------------------------------------------------- drawing


class Count(Transform):
    """A deterministic transform that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, data):
        self.runs += 1
        return {**data, "loaded": torch.full((2,), float(data["x"]))}


class Draw(Randomizable, Transform):
    """A random transform that also writes into what it was given."""

    def __call__(self, data):
        value = float(self.R.uniform())
        data["loaded"] += value
        return {**data, "draw": value}


def dataset(**settings) -> ReproducibleDataset:
    return ReproducibleDataset(
        [{"x": i} for i in range(4)],
        [Count(), Draw()],
        **{"seed": 3, "progress": False, "num_workers": 1, **settings},
    )


def draws(data: ReproducibleDataset, epoch: int = 0, order=None) -> dict[int, tuple[float, int]]:
    data.set_epoch(epoch)
    items = {i: data[i] for i in (range(len(data)) if order is None else order)}
    return {i: (item["draw"], item["seed"]) for i, item in items.items()}


def test_draws_depend_on_neither_order_nor_history_nor_global_generators():
    expected = draws(dataset(), epoch=5)
    data = dataset()
    draws(data, epoch=2)
    np.random.seed(7)
    torch.manual_seed(7)
    again = draws(data, epoch=5, order=[3, 0, 0, 2, 1, 3])
    assert again == expected


def test_draws_leave_global_generators_alone():
    data = dataset()
    numpy_state, torch_state, python_state = (
        np.random.get_state()[1].copy(),
        torch.get_rng_state(),
        random.getstate(),
    )
    draws(data)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


def test_draws_differ_between_epochs_items_seeds_and_repeats():
    values = [
        value
        for settings, epoch in (({"repeats": 3}, 0), ({"repeats": 3}, 1), ({"repeats": 3, "seed": 4}, 0))
        for value in draws(dataset(**settings), epoch).values()
    ]
    assert len({draw for draw, _ in values}) == len(values) == 36
    assert len({seed for _, seed in values}) == 36


def test_two_random_transforms_draw_differently():
    data = ReproducibleDataset(
        [{"x": 0}], Compose([Count(), Draw(), lambda d: {**d, "first": d["draw"]}, Draw()]), progress=False
    )
    assert data[0]["first"] != data[0]["draw"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_workers_do_not_change_the_draws(num_workers):
    data = dataset(repeats=2)
    expected = draws(dataset(repeats=2), epoch=4)
    data.set_epoch(4)
    loader = DataLoader(data, batch_size=3, num_workers=num_workers)
    got = [
        (float(draw), int(seed)) for batch in loader for draw, seed in zip(batch["draw"], batch["seed"], strict=True)
    ]
    assert got == [expected[i] for i in range(8)]


def test_repeats_pass_over_the_same_items_again():
    data = dataset(repeats=3)
    assert len(data) == 12
    assert [data[i]["x"] for i in range(12)] == [0, 1, 2, 3] * 3


@pytest.mark.parametrize(("cache_rate", "runs"), [(1.0, 4), (0.5, 2 + 2 * 6), (0.0, 24)])
def test_deterministic_transforms_run_once_for_each_cached_item(cache_rate, runs):
    data = dataset(repeats=2, cache_rate=cache_rate)
    expected = draws(dataset(repeats=2))
    for _ in range(3):
        assert draws(data) == expected
    assert data.transform.transforms[0].runs == runs


def test_random_transforms_cannot_write_into_the_cache():
    data = dataset()
    first = data[2]["loaded"].clone()
    assert torch.equal(data[2]["loaded"], first)
    assert torch.equal(first, torch.full((2,), 2.0) + data[2]["draw"])


def test_items_without_random_transforms_have_seeds_too():
    data = ReproducibleDataset([{"x": 0}, {"x": 1}], [Count()], progress=False)
    assert data[0]["seed"] != data[1]["seed"]
    assert data[0]["seed"] == data[0]["seed"]


def test_fewer_than_one_repeat_is_refused():
    with pytest.raises(InputError, match=r"repeats.*0"):
        dataset(repeats=0)


def test_plain_loop_over_the_data_set_ends():
    assert len(list(itertools.islice(dataset(repeats=2), 20))) == 8


def test_negative_index_is_the_same_item_with_the_same_draws():
    data = dataset()
    assert data[-1]["draw"] == data[3]["draw"]
