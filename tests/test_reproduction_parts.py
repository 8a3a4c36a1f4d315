"""Painting class by class, and distances between painted and real lesions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import save_nifti, stored_of
from made_up_lesions import write_lesions
from thick_stacks import affine_of, ring, signal

from custom_components.datasets import list_cases
from custom_components.errors import InputError
from custom_components.preparation import write_json
from custom_components.reproduction.budgets import Stage, read_budget, training_length
from custom_components.reproduction.class_passes import list_pass
from custom_components.reproduction.distances import measure_distances
from custom_components.reproduction.experiments import find_experiment

LABELS = (3, 4)


def save_heart(root: Path, name: str, label: np.ndarray) -> dict[str, str]:
    image = save_nifti(root / "images" / f"{name}.nii.gz", signal(label, 0).astype(np.uint8), affine_of())
    path = save_nifti(root / "labels" / f"{name}.nii.gz", label, affine_of())
    return {"image": str(image), "label": str(path), "case": name, "patient": name}


def save_hearts(root: Path) -> Path:
    """Two hearts, of which the second has no core."""
    hearts = {"a": ring(), "b": ring(core=False)}
    write_json(root / "datalist.json", [save_heart(root, name, label) for name, label in hearts.items()])
    return root


def test_each_pass_gets_the_cases_of_its_class_as_the_passes_before_left_them(tmp_path):
    source, folder = save_hearts(tmp_path / "data"), tmp_path / "cell"
    first = list_cases(list_pass(folder, 0, source, LABELS))
    assert [case["case"] for case in first] == ["a", "b"]
    painted, other = (
        save_nifti(folder / "pass_0" / "images" / f"{name}.nii.gz", signal(ring(), 5).astype(np.uint8), affine_of())
        for name in "ab"
    )
    second = list_cases(list_pass(folder, 1, source, LABELS))
    assert [(case["case"], case["image"]) for case in second] == [("a", str(painted))]
    last = save_nifti(folder / "pass_1" / "images" / "a.nii.gz", signal(ring(), 6).astype(np.uint8), affine_of())
    whole = list_cases(list_pass(folder, 2, source, LABELS).parent)
    assert [case["image"] for case in whole] == [str(last), str(other)]
    for case, label in zip(whole, (ring(), ring(core=False)), strict=True):
        assert np.array_equal(stored_of(case["label"]), np.where(label >= 3, label, 0))


def test_a_case_that_a_pass_could_not_paint_is_left_out(tmp_path):
    source, folder = save_hearts(tmp_path / "data"), tmp_path / "cell"
    list_pass(folder, 0, source, LABELS)
    for name in ("a", "b"):
        save_nifti(folder / "pass_0" / "images" / f"{name}.nii.gz", signal(ring(), 5).astype(np.uint8), affine_of())
    list_pass(folder, 1, source, LABELS)
    whole = list_cases(list_pass(folder, 2, source, LABELS).parent)
    assert [case["case"] for case in whole] == ["b"], "its label map would show a core that nobody painted"


def test_masks_of_another_set_are_laid_over_the_anatomy(tmp_path):
    normal = tmp_path / "normal"
    write_json(normal / "datalist.json", [save_heart(normal, "n", ring(lesion=False))])
    masks, lesions = tmp_path / "masks", np.where(ring() >= 3, ring(), 0)
    records = []
    for case in ("n_s1", "n_s2"):
        save_heart(masks, case, lesions)
        records.append({"case": case, "scan": "n", "files": {"label": f"labels/{case}.nii.gz"}})
    (masks / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    cases = list_cases(list_pass(tmp_path / "cell", 0, normal, LABELS, masks))
    assert [case["case"] for case in cases] == ["n_s1", "n_s2"]
    assert all(case["image"] == str(normal / "images" / "n.nii.gz") for case in cases)
    assert np.array_equal(stored_of(cases[0]["label"]), ring())


def test_distances_vanish_between_equal_sets_and_grow_with_a_change(tmp_path):
    names = [f"l{number}" for number in range(8)]
    real = write_lesions(tmp_path / "real", names, range(8))
    other = write_lesions(tmp_path / "other", names, range(8), brightness=300)
    training = write_lesions(tmp_path / "training", names, range(20, 28))
    same, far = (
        measure_distances(real, painted, training, {"lesion": 1}, window=(-1000, 400))["lesion"]
        for painted in (real, other)
    )
    assert same["frechet"] == pytest.approx(0, abs=1e-6) and same["sliced_wasserstein"] == pytest.approx(0, abs=1e-9)
    assert far["frechet"] > 1 and far["sliced_wasserstein"] > 0.1
    assert same["lesions"] == {"real": 8, "synthetic": 8, "training": 8} and same["components"] == 7


def test_a_class_with_too_few_lesions_has_no_distance(tmp_path):
    real = write_lesions(tmp_path / "real", ["a", "b", "c"], range(3))
    found = measure_distances(real, real, real, {"lesion": 1, "core": 2}, window=(-1000, 400))
    assert found["core"] is None and found["lesion"]["frechet"] == pytest.approx(0, abs=1e-6)


def test_the_experiment_is_told_by_the_labels(tmp_path):
    save_hearts(tmp_path / "heart" / "Pathological")
    write_lesions(tmp_path / "lung" / "Pathological", ["a"], [0])
    assert find_experiment(tmp_path / "heart").name == "emidec"
    assert find_experiment(tmp_path / "lung").name == "lidc"
    strange = tmp_path / "strange" / "Pathological"
    write_json(strange / "datalist.json", [save_heart(strange, "x", ring(core=False))])
    with pytest.raises(InputError, match="pass --dataset"):
        find_experiment(tmp_path / "strange")


def test_trainings_have_as_many_steps_as_the_budget_says():
    cases = [{"patient": str(number)} for number in range(20)]
    stage = Stage(("train_cpu",), {"batch_size": 4, "repeats": 3}, steps=100)
    length = training_length("lefusion_lidc", stage.config, stage, cases, 0.1)
    assert length.val_fraction == 0.1  # 2 of 20 patients; the others make 14 batches an epoch
    assert (length.epochs, length.steps) == (8, 112)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "KeyError"),
        ('{"experiments": {"lidc": {"generator": {"step": 3}}}}', "not step"),
        ('{"experiments": {"lidc": {"generator": {"steps": 0}}}}', "above 0"),
        ('{"experiments": {"lidc": {"segmenters": {"dynunet": {"epochs": 3}}}}}', "not epochs"),
        ('{"experiments": {"lidc": {"methods": {"repaint": {"generator": 350}}}}}', "not 350"),
        ('{"experiments": {"lidc": {"generator": {"config": "train_cpu"}}}}', "config must be a list"),
        ('{"experiments": {"lidc": {"generator": {"keys": ["a"]}}}}', "keys must be an object"),
        ('{"val_fraction": "a tenth", "experiments": {}}', "val_fraction must lie between 0 and 1"),
        ("no JSON", "cannot be read"),
    ],
)
def test_budgets_of_another_form_are_refused(content, words, tmp_path):
    (tmp_path / "budget.json").write_text(content)
    with pytest.raises(InputError, match=words):
        read_budget(str(tmp_path / "budget.json"))


def test_counts_that_are_none_are_told_by_their_key():
    stage = Stage(("train_cpu",), {"batch_size": "four"}, steps=100)
    with pytest.raises(InputError, match="batch_size must be a whole number above 0, got 'four'"):
        training_length("lefusion_lidc", stage.config, stage, [{"patient": str(n)} for n in range(9)], 0.1)


def test_a_segmenter_of_a_budget_needs_no_keys_of_its_own(tmp_path):
    content = {"experiments": {"lidc": {"segmenters": {"dynunet": {"config": ["train_cpu"]}}}}}
    (tmp_path / "budget.json").write_text(json.dumps(content))
    stage = read_budget(str(tmp_path / "budget.json")).segmenter("lidc", "dynunet")
    assert (stage.config, stage.keys) == (("train_cpu",), {})


def test_unknown_budgets_are_told_the_known_ones():
    with pytest.raises(InputError, match="paper, shipped, small, tiny or a JSON file"):
        read_budget("huge")
