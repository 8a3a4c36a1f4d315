"""`lefusion reproduce` from end to end on phantoms, by real processes at a tiny budget."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom_components.errors import InputError
from lefusion_scripts.reproduce import reproduce
from lefusion_scripts.write_phantoms import write_phantoms

GIVEN = {
    "table": "2",
    "budget": "tiny",
    "seeds": 1,
    "segmenters": "dynunet",
    "methods": "hand_crafted",
    "settings": "P,P+hand_crafted-handcrafted-N1",
}
CELLS = {
    "generator/emidec/0/hand_crafted",
    "set/emidec/0/hand_crafted-handcrafted-N1",
    "segmenter/emidec/0/P/dynunet/0",
    "segmenter/emidec/0/P+hand_crafted-handcrafted-N1/dynunet/0",
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(str(data), pathological=6, normal=2, shape=(64, 64, 6), spacing_mm=(2.5, 2.5, 10.0))
    return data


@pytest.fixture(scope="module")
def work(phantoms, tmp_path_factory) -> Path:
    """A finished grid."""
    folder = tmp_path_factory.mktemp("grid") / "work"
    words = [
        part for key, value in {**GIVEN, "data": phantoms, "work": folder}.items() for part in (f"--{key}", str(value))
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lefusion_scripts.cli", "reproduce", *words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "Baseline" in done.stdout and "68.61" in done.stdout
    return folder


def results(work: Path) -> dict[str, int]:
    return {str(path.parent.relative_to(work)): path.stat().st_mtime_ns for path in work.rglob("result.json")}


@pytest.mark.integration
def test_a_table_is_made_from_data(work):
    assert set(results(work)) == CELLS
    rows = list(csv.DictReader((work / "tables" / "table_2_emidec.csv").open()))
    assert [(row["setting"], row["measure"]) for row in rows[:3]] == [
        ("P", "nnU-Net MI Dice"),
        ("P", "nnU-Net PMO Dice"),
        ("P+N'", "nnU-Net MI Dice"),
    ]
    assert all(row["runs"] == "1" and 0 <= float(row["mean"]) <= 100 for row in rows)
    text = (work / "tables" / "table_2_emidec.md").read_text()
    assert "68.61" in text and "4 to learn from, 1 to choose by, 1 held out, 2 normal" in text
    assert (work / "tables" / "table_2_emidec.png").is_file()
    made = json.loads((work / "set/emidec/0/hand_crafted-handcrafted-N1/result.json").read_text())
    assert (made["made"], made["failed"]) == (4, 0)  # two cases of each normal heart


@pytest.mark.integration
def test_a_complete_grid_is_only_read_again_also_by_another_table(work, phantoms, capsys):
    before = results(work)
    reproduce(data=str(phantoms), work=str(work), **{**GIVEN, "table": "A1"}, progress=False)
    assert results(work) == before
    assert "59.27" in capsys.readouterr().out
    assert (work / "tables" / "table_A1_emidec.csv").is_file()


@pytest.mark.integration
@pytest.mark.parametrize(("changed", "words"), [({"folds": 2}, "folds now has 2"), ({"budget": "small"}, "budget now")])
def test_options_that_would_change_results_are_refused(changed, words, work, phantoms):
    with pytest.raises(InputError, match=words):
        reproduce(data=str(phantoms), work=str(work), **{**GIVEN, **changed})


@pytest.mark.integration
def test_a_dry_run_tells_what_is_done_and_what_is_left(work, phantoms, capsys):
    given = {**GIVEN, "methods": "hand_crafted,lefusion_j", "settings": None}
    reproduce(data=str(phantoms), work=str(work), **given, dry_run=True, measure=False)
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[-1]: " ".join(line.split()[:-1]) for line in lines[:-1]}
    assert {name for name, state in states.items() if state == "done"} == CELLS
    assert states["generator/emidec/0/lefusion_j"] == "cost unknown"
    assert states["segmenter/emidec/0/P+lefusion_j-given-P1/dynunet/0"].startswith("about ")
    assert f"{len(states)} cells, {len(CELLS)} done" in lines[-1]
    assert set(results(work)) == CELLS


def test_a_dry_run_leaves_nothing_behind(phantoms, tmp_path, capsys):
    reproduce(data=str(phantoms), work=str(tmp_path / "work"), table="2", budget="paper", dry_run=True, measure=False)
    assert "cells, 0 done" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"table": "1"}, "table 1 is of lidc; the labels in .* are those of infarct"),
        ({"table": "7"}, "table must be one of 1, 2, A1"),
        ({"seeds": 0}, "seeds must be a whole number above 0"),
        ({"segmenters": "unet"}, "segmenters must be among dynunet, swinunetr"),
        ({"methods": "lefusion_h"}, "methods of table 2 are"),
        ({"settings": "Q"}, "settings of table 2 are P, "),
        ({"table": "A3", "methods": None, "settings": None, "features": "none.pt"}, "none.pt"),
        ({"settings": ""}, "names with commas between them"),
        ({"folds": 7}, "6 patients cannot be dealt into 7 folds"),
        ({"budget": "none.json"}, "budget must be one of"),
    ],
)
def test_wrong_options_are_told_before_any_work(changed, words, phantoms, tmp_path):
    with pytest.raises(InputError, match=words):
        reproduce(data=str(phantoms), work=str(tmp_path / "work"), **{**GIVEN, **changed})
    assert not (tmp_path / "work").exists(), "or it would be a grid that was begun with these options"
