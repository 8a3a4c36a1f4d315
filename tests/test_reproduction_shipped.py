"""Grids that paint with the weights that come with the bundles: nobody whom these know is held out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bundle_runs import save_nifti
from reproduction_plans import made_up_cases, option, plan_of

from custom_components.bundle_configs import as_overrides, bundle_root, check_overrides, config_files
from custom_components.datasets import list_cases, split_by_patient
from custom_components.errors import InputError
from custom_components.reproduction.budgets import read_budget
from custom_components.reproduction.cells import write_record
from custom_components.reproduction.entries import collect
from custom_components.reproduction.folds import deal_folds
from custom_components.reproduction.grid import list_cells
from custom_components.reproduction.paper import read_table
from lefusion_scripts.reproduce import reproduce


def save_data(root) -> None:
    """Ten scans with a lesion of some voxels, and one without."""
    label = np.zeros((4, 4, 4), np.uint8)
    for number in range(11):
        label[1, 1, 1] = number < 10
        folder = root / ("Pathological" if number < 10 else "Normal")
        save_nifti(folder / "images" / f"c{number}.nii.gz", label.astype(np.int16))
        save_nifti(folder / "labels" / f"c{number}.nii.gz", label)


def patients(cases: list[dict]) -> set[str]:
    return {case["patient"] for case in cases}


@pytest.fixture
def grid(tmp_path):
    """The cells of table 1 by shipped weights."""
    plan = plan_of(tmp_path, budget="shipped", segmenters=("dynunet",), seeds=2)
    plan = replace(plan, methods=plan.budget.compared("lidc"))
    return list_cells(plan, read_table("1", "lidc"))


def test_patients_whom_the_weights_know_are_learnt_from_only():
    known = {f"p{number:02d}" for number in range(30)}
    (fold,) = deal_folds(made_up_cases(50), [], [], 1, 0.1, known)
    assert known <= patients(fold["train"])
    assert len(patients(fold["test"])) == 10  # 20 % of 50, as ever
    assert len(patients(fold["val"])) == 4
    assert sum(len(fold[part]) for part in ("train", "val", "test")) == 50


def test_where_few_are_unknown_all_of_them_are_held_out_or_chosen_by():
    known = {f"p{number:02d}" for number in range(46)}
    (fold,) = deal_folds(made_up_cases(50), [], [], 1, 0.1, known)
    assert (len(fold["test"]), len(fold["val"]), len(fold["train"])) == (3, 1, 46)


@pytest.mark.parametrize(
    ("cases", "test", "folds", "known", "words"),
    [
        (20, 3, 1, {"t01"}, "learnt from t01, who is to be held out"),
        (20, 0, 2, {"p01"}, "only be 1 fold, not 2"),
        (20, 0, 1, {f"p{number:02d}" for number in range(20)}, "nobody can be held out"),
        (20, 3, 1, {f"p{number:02d}" for number in range(20)}, "none is left to choose by"),
    ],
)
def test_what_would_hold_out_someone_known_is_refused(cases, test, folds, known, words):
    with pytest.raises(InputError, match=words):
        deal_folds(made_up_cases(cases), made_up_cases(test, "t"), [], folds, 0.1, known)


def test_patients_named_in_the_budget_are_those_that_the_bundles_learnt_from(data_dir):
    """Of both: the painting bundle and the judge hold out the same patients."""
    cases = list_cases(data_dir / "lidc_nodules")
    for bundle in ("lefusion_lidc", "lesion_segmentation"):
        fraction = json.loads((bundle_root(bundle) / "configs" / "train.json").read_text())["val_fraction"]
        learnt = patients(split_by_patient(cases, fraction, "training"))
        assert read_budget("shipped").trained_on("lidc") == learnt


def test_nothing_that_paints_is_trained(grid):
    weights = str(bundle_root("lefusion_lidc") / "models" / "model.pt")
    commands = [step.arguments for cell in grid for step in cell.steps if cell.kind in ("generator", "set")]
    assert {words[0] for words in commands} == {"fit_presets", "fit_texture_levels", "synthesize"}
    painted = [words for words in commands if "lefusion_h" in str(option(words, "output"))]
    assert painted and all(option(words, "weights") == weights for words in painted if words[0] == "synthesize")
    for words in commands:
        if words[0] == "synthesize":
            given = {key.removeprefix("--"): value for key, value in zip(words[1::2], words[2::2], strict=True)}
            root, config = bundle_root(given["bundle"]), given.get("config", "")
            keys = {key: given[key] for key in ("weights", "spatial_size", "texture_levels") if key in given}
            check_overrides(config_files(root, "inference", config), {**as_overrides(keys), "bundle_root": ""})


def test_every_setting_goes_on_from_the_weights_of_the_judge_for_as_many_steps(grid):
    weights = str(bundle_root("lesion_segmentation") / "models" / "model.pt")
    trained = [cell for cell in grid if cell.kind == "segmenter"]
    assert trained and not any(cell.kind == "warm_up" for cell in grid)
    assert all(option(cell.steps[0].arguments, "pretrained") == weights for cell in trained)
    assert len({cell.units for cell in trained}) == 1


def test_methods_without_weights_of_their_own_are_not_compared(grid, tmp_path):
    assert {name.split("-")[0] for cell in grid if cell.kind == "set" for name in [cell.id.split("/")[3]]} == {
        "hand_crafted",
        "copy_paste",
        "lefusion_h",
    }
    with pytest.raises(InputError, match="compares hand_crafted, copy_paste, lefusion_h only, not repaint"):
        reproduce("1", str(tmp_path), str(tmp_path / "work"), budget="shipped", methods="repaint", dataset="lidc")


def test_tables_show_the_segmenters_and_methods_that_the_budget_knows(grid, tmp_path):
    plan = plan_of(tmp_path, budget="shipped", segmenters=("dynunet",), seeds=2)
    plan = replace(plan, methods=plan.budget.compared("lidc"))
    for cell in grid:
        if cell.kind == "segmenter":
            write_record(cell.folder(tmp_path) / "result.json", {"measures": {"lesion/dice": 0.5, "lesion/nsd": 0.25}})
        elif cell.kind == "set":
            write_record(cell.folder(tmp_path) / "result.json", {"made": 6, "failed": 0})
    found = collect(plan, read_table("1", "lidc"))
    assert {column.segmenter for column in found.columns} == {"dynunet"}
    assert {name for row in found.rows for name in row.methods} == {"hand_crafted", "copy_paste", "lefusion_h"}
    assert all(
        entry.mean == pytest.approx(value)
        for line in found.entries
        for entry, value in zip(line, (50, 25), strict=True)
    )


@pytest.mark.parametrize("table", ["1", "A2", "A3"])
def test_each_table_takes_those_of_its_methods_that_the_budget_compares(table, tmp_path, capsys):
    save_data(tmp_path / "data")
    given = {"data": str(tmp_path / "data"), "work": str(tmp_path / "work"), "budget": "shipped", "dataset": "lidc"}
    reproduce(table, **given, dry_run=True, measure=False)
    told = capsys.readouterr().out
    assert "/hand_crafted" in told and "/lefusion_h" in told
    assert ("copy_paste" in told) == (table == "1") and "repaint" not in told


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"generator": {"weights": "mine.pt"}}, "weights must be 'shipped'"),
        ({"generator": {"weights": "shipped"}}, "trained_on lists the patients"),
        ({"trained_on": "LIDC-IDRI-0001"}, "trained_on must be a list"),
    ],
)
def test_budgets_that_do_not_tell_whom_their_weights_know_are_refused(part, words, tmp_path):
    (tmp_path / "budget.json").write_text(json.dumps({"experiments": {"lidc": part}}))
    with pytest.raises(InputError, match=words):
        read_budget(str(tmp_path / "budget.json"))


def test_the_heart_is_told_to_have_no_such_budget(tmp_path):
    with pytest.raises(InputError, match="shipped says nothing of emidec"):
        read_budget("shipped").stage("emidec", "generator")
