"""Tables from results that are known: means, spreads, numbers of runs, beside the paper's."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from reproduction_plans import plan_of

from custom_components.reproduction.entries import Entry, collect
from custom_components.reproduction.grid import row_cells
from custom_components.reproduction.paper import read_table
from custom_components.reproduction.plots import save_plot
from custom_components.reproduction.results import read_result
from custom_components.reproduction.tables import as_csv, as_markdown, as_text

DICE = [0.70, 0.72, 0.80, 0.78]  # of two folds and two seeds


def write_results(plan, table) -> None:
    """The baseline by DynUNet is complete; of the first row of P', a run; of the others, none."""
    for row, count in ((table.rows[0], 4), (table.rows[1], 1)):
        for cell, dice in zip(row_cells(plan, table, row, "dynunet")[:count], DICE, strict=False):
            path = cell.folder(plan.work) / "result.json"
            path.parent.mkdir(parents=True)
            measures = {"lesion/dice": dice, "lesion/nsd": None if row is table.rows[1] else dice + 0.1}
            path.write_text(json.dumps({"seconds": 1, "measures": measures}))


@pytest.fixture
def results(tmp_path):
    plan, table = plan_of(tmp_path, folds=2, seeds=2), read_table("1", "lidc")
    write_results(plan, table)
    return collect(plan, table)


def test_entries_are_means_and_deviations_over_folds_and_seeds(results):
    entry = results.entries[0][0]
    assert entry.mean == pytest.approx(75.0)
    assert entry.spread == pytest.approx(np.std(DICE, ddof=1) * 100)
    assert len(entry.values) == entry.planned == 4
    single, missing = results.entries[1][0], results.entries[1][1]
    assert (single.mean, single.spread, single.planned) == (pytest.approx(70.0), None, 4)
    assert (missing.mean, missing.values) == (None, ())


def test_markdown_has_ours_beside_the_papers(results):
    lines = as_markdown(results).splitlines()
    assert lines[0].startswith("# Table 1: ")
    assert "| Baseline | P | 75.00 ± 4.76 (4) | 78.26 | 85.00 ± 4.76 (4) | 88.90 | – (0 of 4) | 78.38 |" in "\n".join(
        lines
    )
    assert any(line.startswith("| Hand-Crafted (2023) | P+P' | 70.00 (1 of 4) | 76.80 | – (0 of 4)") for line in lines)
    assert any(line.startswith("| *Texture Synthesis with Copied Masks") for line in lines)
    columns = {line.count(" | ") for line in lines if line.startswith("| ")}
    assert len(columns) == 1
    notes = "\n".join(line for line in lines if line.startswith("- "))
    assert "2 folds x 2 seeds" in notes and "mean nothing" in notes and "shipped with the mask bundle" in notes


def test_csv_has_every_run(results):
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert len(rows) == 21 * 4
    first = rows[0]
    assert (first["method"], first["setting"], first["measure"], first["runs"]) == (
        "Baseline",
        "P",
        "nnU-Net Dice",
        "4",
    )
    assert [float(value) for value in first["values"].split()] == pytest.approx([100 * value for value in DICE])
    assert float(first["mean"]) == pytest.approx(75) and float(first["paper"]) == 78.26
    single = rows[4]
    assert (single["setting"], float(single["difference"]), single["difference_spread"]) == ("P+P'", 0.0, "")


def test_without_a_baseline_there_is_no_difference(tmp_path):
    plan, table = plan_of(tmp_path, folds=2, seeds=2), read_table("1", "lidc")
    for cell in row_cells(plan, table, table.rows[1], "dynunet"):
        (cell.folder(plan.work)).mkdir(parents=True)
        (cell.folder(plan.work) / "result.json").write_text('{"seconds": 1, "measures": {"lesion/dice": 0.7}}')
    found = collect(replace(plan, settings=[table.rows[1].key]), table)
    (dice, *_) = csv.DictReader(io.StringIO(as_csv(found)))
    assert (float(dice["mean"]), dice["difference"]) == (pytest.approx(70), "")


def test_tables_tell_that_all_settings_began_from_the_same_weights(tmp_path):
    table, words = read_table("1", "lidc"), "go on from the same weights"
    assert any(words in note for note in collect(plan_of(tmp_path / "a", budget="small"), table).notes)
    assert not any(words in note for note in collect(plan_of(tmp_path / "b", budget="paper"), table).notes)


def test_differences_are_taken_run_by_run():
    difference = Entry((3.0, None, 7.0)) - Entry((1.0, 2.0, 4.0))
    assert difference.values == (2.0, 3.0)
    assert difference.spread == pytest.approx(0.5**0.5)


def test_rows_of_an_earlier_command_stay_in_the_table(tmp_path):
    table = read_table("1", "lidc")
    write_results(plan_of(tmp_path, folds=2, seeds=2), table)
    later = collect(plan_of(tmp_path, folds=2, seeds=2, segmenters=["swinunetr"], methods=["copy_paste"]), table)
    assert [row.label for row in later.rows] == ["Baseline", "Hand-Crafted (2023)", "Copy-Paste"]
    assert [column.title for column in later.columns][:2] == ["nnU-Net Dice", "nnU-Net NSD"]
    assert later.entries[0][0].mean == pytest.approx(75)


def test_text_lines_up(results):
    lines = as_text(results).splitlines()
    assert len({line.find("paper") for line in lines if "paper" in line and "nnU-Net" in line}) == 1
    assert next(line for line in lines if line.startswith("Baseline")).split()[1:4] == ["P", "75.00", "±"]


def test_plot_is_drawn(results, tmp_path):
    save_plot(results, tmp_path / "plot.png")
    assert min(imread(tmp_path / "plot.png").shape[:2]) > 500


def test_tables_of_image_quality_tell_what_the_paper_measures_instead(tmp_path):
    plan, table = plan_of(tmp_path, "emidec"), read_table("A3", "emidec")
    for cell in row_cells(plan, table, table.rows[0], None):
        path = cell.folder(plan.work) / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"seconds": 1, "measures": {"mi/frechet": 12.345, "mi/kernel": 0.0321}}))
    text = as_markdown(collect(plan, table))
    assert "| MI Frechet distance | paper: MI FID | MI kernel distance | paper: MI KID |" in text
    assert "| Hand-Crafted (2023) | 12.35 (1) | 19.06 | 0.0321 (1) | 3.58 |" in text
    assert "network trained on photographs" in text
    assert "not in the paper's table" in text


def test_results_of_segmenters_are_read_from_their_summary(tmp_path):
    (tmp_path / "evaluation").mkdir()
    found = {"dice": {"mean": 0.5, "sd": 0.1, "n": 3}, "nsd": {"mean": 0.75, "sd": 0.1, "n": 3}}
    summary = {"cases": 4, "classes": {"mi": found}}
    (tmp_path / "evaluation" / "summary.json").write_text(json.dumps(summary))
    result = read_result("segmenter", tmp_path)
    assert result["measures"] == {"mi/dice": 0.5, "mi/nsd": 0.75}
    assert (result["cases"], result["counted"]) == (4, {"mi": 3})


def test_results_of_image_quality_have_the_mean_over_classes(tmp_path):
    for name, value in (("mi", 20.0), ("pmo", 30.0)):
        measures = dict.fromkeys(("psnr_crop", "ssim_crop", "psnr_lesion", "ssim_lesion"), value)
        folder = tmp_path / f"evaluation_{name}"
        folder.mkdir()
        filling = {"painted": {**measures, "max_outside": 0.0}}
        (folder / "summary.json").write_text(json.dumps({"classes": {name: {"fillings": filling}}}))
    distances = {"mi": {"frechet": 4.0, "kernel": 1.0, "sliced_wasserstein": 0.5}, "pmo": None}
    (tmp_path / "distances.json").write_text(json.dumps(distances))
    measures = read_result("quality", tmp_path)["measures"]
    assert (measures["mi/psnr_crop"], measures["pmo/psnr_crop"], measures["mean/psnr_crop"]) == (20, 30, 25)
    assert measures["mi/frechet"] == 4 and "mean/frechet" not in measures
