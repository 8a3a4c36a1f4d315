"""The cells of each table: what they run, what they need, and that nothing held out is learnt from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import save_nifti
from reproduction_plans import option, plan_of

from custom_components.bundle_configs import as_overrides, bundle_root, check_overrides, config_files
from custom_components.datasets import split_by_patient
from custom_components.errors import InputError
from custom_components.reproduction.budgets import read_budget
from custom_components.reproduction.grid import list_cells
from custom_components.reproduction.paper import read_table, table_names
from custom_components.reproduction.segmenters import segmenter_cell
from custom_components.synthesis.options import read_options

ALL = [(name, dataset) for name, datasets in table_names().items() for dataset in datasets]


def steps_of(cells, command: str) -> list[tuple[str, ...]]:
    return [
        step.arguments
        for cell in cells
        for step in cell.steps
        if step.arguments[: len(command.split())] == tuple(command.split())
    ]


@pytest.mark.parametrize(("name", "dataset"), ALL)
def test_every_entry_has_its_cells_after_what_they_need(name, dataset, tmp_path):
    plan, table = plan_of(tmp_path, dataset, folds=2, seeds=3), read_table(name, dataset)
    cells = list_cells(plan, table)
    ids = [cell.id for cell in cells]
    assert len(set(ids)) == len(ids)
    for place, cell in enumerate(cells):
        assert set(cell.needs) <= set(ids[:place])
    last = [id_ for id_ in ids if id_.startswith(("segmenter", "quality"))]
    settings = {row.key for row in table.rows}
    runs = 2 * 3 * 2 if table.kind == "segmentation" else 2  # folds, seeds, segmenters
    assert len(last) == len(settings) * runs


def test_table_1_is_the_grid_of_the_paper(tmp_path):
    ids = {cell.id for cell in list_cells(plan_of(tmp_path), read_table("1", "lidc"))}
    generators = {id_.split("/")[3] for id_ in ids if id_.startswith("generator")}
    assert generators == {"hand_crafted", "repaint", "cond_diffusion", "latent_diffusion", "lefusion", "lefusion_h"}
    sets = {id_.split("/")[3] for id_ in ids if id_.startswith("set")}
    assert len(sets) == 6 + 5 + 6 + 2
    assert {"lefusion_h-given-P1", "copy_paste-copy-N1", "lefusion_h-diffmask-N2"} <= sets
    assert "segmenter/lidc/0/P+lefusion_h-given-P1+lefusion_h-diffmask-N2/swinunetr/0" in ids
    assert sum(id_.startswith("segmenter") for id_ in ids) == 21 * 2


def test_tables_share_their_cells(tmp_path):
    plan = plan_of(tmp_path, "emidec")
    grids = {
        name: {cell.id: cell for cell in list_cells(plan, read_table(name, "emidec"))}
        for name in table_names()
        if name != "1"
    }
    assert grids["2"] == grids["A1"] and grids["A2"] == grids["A3"] == grids["A4"]
    shared = [id_ for id_ in grids["2"] if id_.startswith("generator")]
    assert shared and all(grids["A2"][id_] == grids["2"][id_] for id_ in shared)


@pytest.mark.parametrize(("name", "dataset"), ALL)
def test_generators_and_segmenters_learn_from_a_folds_training_cases_only(name, dataset, tmp_path):
    plan = plan_of(tmp_path, dataset, folds=2)
    for cell in list_cells(plan, read_table(name, dataset)):
        fold = plan.folds[int(cell.id.split("/")[2])]
        for step in cell.steps:
            words = step.arguments
            if words[:2] == ("run", "training") and cell.kind == "generator":
                assert option(words, "dataset_dir") == str(fold.path("train"))
            elif words[:2] == ("run", "training"):
                lists = json.loads(option(words, "train_lists"))
                assert lists[0] == str(fold.path("train"))
                assert all(path.startswith(str(tmp_path / "set" / dataset / str(fold.number))) for path in lists[1:])
                assert json.loads(option(words, "val_lists")) == [str(fold.path("val"))]
            elif words[:2] == ("run", "evaluate"):
                wanted = f'["{fold.path("test")}"]' if cell.kind == "segmenter" else str(fold.path("test"))
                assert option(words, "test_lists" if cell.kind == "segmenter" else "dataset_dir") == wanted
            elif words[0] in ("fit_presets", "fit_texture_levels"):
                assert words[1] == str(fold.path("train"))
            elif words[0] == "synthesize" and cell.kind == "set":
                library, own = option(words, "library"), [str(fold.path("train")), str(fold.path("normal"))]
                assert option(words, "input") in own or option(words, "input").startswith(str(tmp_path / cell.id))
                assert library in (None, str(fold.path("train")))


@pytest.mark.parametrize(("name", "dataset"), [("1", "lidc"), ("2", "emidec"), ("A2", "emidec")])
def test_hand_crafted_texture_draws_around_the_levels_of_its_own_fold(name, dataset, tmp_path):
    cells = {cell.id: cell for cell in list_cells(plan_of(tmp_path, dataset, folds=2), read_table(name, dataset))}
    painted = 0
    for cell in cells.values():
        for step in cell.steps:
            if option(step.arguments, "config") == "[hand_crafted_texture]":
                fitted = f"generator/{dataset}/{cell.id.split('/')[2]}/hand_crafted"
                assert fitted in cell.needs
                written = option(cells[fitted].steps[0].arguments, "output")
                assert option(step.arguments, "texture_levels") == written
                assert step.arguments[0] == "synthesize" or step.arguments[:2] == ("run", "evaluate")
                painted += 1
    assert painted >= 2


@pytest.mark.parametrize("budget", ["paper", "small", "tiny"])
@pytest.mark.parametrize(("name", "dataset"), [("1", "lidc"), ("2", "emidec"), ("A2", "lidc"), ("A2", "emidec")])
def test_every_command_has_the_overlays_and_keys_it_names(name, dataset, budget, tmp_path):
    seen = set()
    for cell in list_cells(plan_of(tmp_path, dataset, budget=budget), read_table(name, dataset)):
        for step in cell.steps:
            words = step.arguments
            if words[0] == "run":
                given = {key.removeprefix("--"): value for key, value in zip(words[2::2], words[3::2], strict=True)}
                root, config = bundle_root(given.pop("bundle")), given.pop("config", "")
                shape = (words[1], str(root), config, *sorted(given))
                if shape not in seen:
                    seen.add(shape)
                    check_overrides(config_files(root, words[1], config), {**as_overrides(given), "bundle_root": ""})
            elif words[0] == "synthesize":
                given = {key.removeprefix("--"): value for key, value in zip(words[1::2], words[2::2], strict=True)}
                known = (
                    "input",
                    "output",
                    "bundle",
                    "config",
                    "masks",
                    "set",
                    "texture",
                    "layout",
                    "organ_mask",
                    "library",
                )
                numbers = {
                    key: int(given.pop(key)) for key in ("lesions", "cases_per_scan", "seed", "threads") if key in given
                }
                named = {key: given.pop(key) for key in known if key in given}
                for key in ("panel", "gallery"):
                    given.pop(key)
                options = read_options(**named, **numbers, overrides=given)
                files = config_files(bundle_root(options.bundle), "inference", list(options.config))
                shape = (tuple(files), *sorted(options.overrides))
                if shape not in seen:
                    seen.add(shape)
                    check_overrides(files, options.overrides)
    assert seen


def test_all_settings_and_methods_get_as_many_steps(tmp_path):
    cells = list_cells(plan_of(tmp_path, budget="small"), read_table("1", "lidc"))
    for segmenter in ("dynunet", "swinunetr"):
        assert len({cell.units for cell in cells if cell.kind == "segmenter" and f"/{segmenter}/" in cell.id}) == 1
    one_network = {cell.units for cell in cells if cell.like.startswith("generator") and "latent" not in cell.id}
    assert len(one_network) == 1
    (asked,) = {read_budget("small").stage("lidc", "generator").steps}
    assert asked <= one_network.pop() < 1.1 * asked


def test_a_network_of_one_class_takes_as_many_steps_though_fewer_cases_have_it(tmp_path):
    plan = plan_of(tmp_path, "emidec", budget="small")
    path = plan.folds[0].path("train") / "datalist.json"
    cases = json.loads(path.read_text())
    without = save_nifti(tmp_path / "no_core.nii.gz", np.full((5, 1, 1), 3, np.uint8))
    path.write_text(json.dumps([{**case, "label": str(without)} for case in cases[::2]] + cases[1::2]))
    cells = {cell.id: cell for cell in list_cells(plan, read_table("2", "emidec"))}
    words = {step.name: step.arguments for step in cells["generator/emidec/0/lefusion_s"].steps}
    epochs = {name: int(option(arguments, "max_epochs")) for name, arguments in words.items()}
    fraction = float(option(words["generator_generator_pmo"], "val_fraction"))
    learnt = split_by_patient(cases[1::2], fraction, "training")  # 4 repeats, batches of 4
    asked = read_budget("small").stage("emidec", "generator").steps
    assert asked <= epochs["generator_generator_pmo"] * len(learnt) < 1.2 * asked
    assert epochs["generator_generator_pmo"] > 1.5 * epochs["generator_generator_mi"]


def test_measuring_shows_the_network_what_it_was_trained_on(tmp_path):
    plan = plan_of(tmp_path)
    keys = {"spacing_mm": [2, 2, 2], "hu_window": [-900, 300], "max_epochs": 3, "width": 8}
    content = {"experiments": {"lidc": {"segmenters": {"dynunet": {"keys": keys}}}}}
    plan = replace(plan, budget=replace(plan.budget, content=content))
    cell = segmenter_cell(plan, plan.folds[0], read_table("1", "lidc").rows[0], "dynunet", 0)
    training, measuring = (step.arguments for step in cell.steps)
    for key in ("spacing_mm", "hu_window", "width"):
        assert option(measuring, key) == option(training, key) == str(keys[key])


def test_classes_with_a_network_each_are_painted_one_after_the_other(tmp_path):
    plan = plan_of(tmp_path, "emidec")
    cells = {cell.id: cell for cell in list_cells(plan, read_table("2", "emidec"))}
    cell = cells["set/emidec/0/lefusion_s-handcrafted-N1"]
    assert "set/emidec/0/hand_crafted-handcrafted-N1" in cell.needs
    assert [step.name for step in cell.steps] == ["layers_0", "synthesize_mi", "layers_1", "synthesize_pmo", "layers_2"]
    weights = [Path(option(step.arguments, "weights")).parts[-3] for step in cell.steps if "synthesize" in step.name]
    assert weights == ["generator_mi", "generator_pmo"]


def test_methods_that_change_the_background_keep_that_in_their_sets(tmp_path):
    cells = list_cells(plan_of(tmp_path), read_table("1", "lidc"))
    for words in steps_of(cells, "synthesize"):
        generated = "cond_diffusion" in option(words, "output") or "latent_diffusion" in option(words, "output")
        assert option(words, "paste") == ("crop" if generated else None)


def test_only_what_the_methods_take_part_in_is_made(tmp_path):
    cells = list_cells(plan_of(tmp_path, methods=["copy_paste"]), read_table("1", "lidc"))
    assert [cell.id for cell in cells if cell.kind != "segmenter"] == ["set/lidc/0/copy_paste-copy-N1"]
    assert len(cells) == 1 + 2 * 2
    with pytest.raises(InputError, match="got 'magic'"):
        list_cells(plan_of(tmp_path, methods=["magic"]), read_table("1", "lidc"))


def test_settings_can_be_chosen_by_the_names_of_their_folders(tmp_path):
    plan = replace(plan_of(tmp_path), settings=["P+lefusion_h-given-P1+lefusion_h-diffmask-N2"])
    ids = [cell.id for cell in list_cells(plan, read_table("1", "lidc"))]
    assert sum(id_.startswith("segmenter") for id_ in ids) == 2
    assert {id_ for id_ in ids if not id_.startswith("segmenter")} == {
        "generator/lidc/0/lefusion_h",
        "set/lidc/0/lefusion_h-given-P1",
        "set/lidc/0/lefusion_h-diffmask-N2",
    }
    with pytest.raises(InputError, match="settings of table 1 are P, "):
        list_cells(replace(plan, settings=["P+everything"]), read_table("1", "lidc"))


def test_autoencoders_are_trained_before_what_works_in_their_latent_space(tmp_path):
    cells = {cell.id: cell for cell in list_cells(plan_of(tmp_path), read_table("1", "lidc"))}
    first, second = cells["generator/lidc/0/latent_diffusion"].steps
    assert "autoencoder" in option(first.arguments, "config") and "latent_diffusion" in option(
        second.arguments, "config"
    )
    output = Path(option(first.arguments, "output_dir"))
    assert option(second.arguments, "autoencoder_weights") == str(output / "checkpoints" / "model.pt")
