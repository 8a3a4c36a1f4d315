"""Recurrent lengths compared on a bundle's sample by a tiny network: same sites, same seeds, counted forwards."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from bundle_runs import Output
from control_runs import PRESETS, quick, read_table
from made_up_lesions import made_up_crops, write_lesions
from matplotlib import pyplot as plt

from custom_components.errors import InputError
from custom_components.metrics import border_steps
from lefusion_scripts.evaluate_recurrence import averages, borders, evaluate_recurrence

RECURRENCES = {"none": [1, 1], "twice": [1, 2]}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The command's folder and report; the lesion masks are those of made-up scans, by which borders are judged."""
    folder = tmp_path_factory.mktemp("recurrence")
    shapes = write_lesions(folder / "shapes", [f"p{k}" for k in range(8)], range(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        given = {"shapes": str(shapes), "sites": 2, "recurrences": RECURRENCES}
        report = evaluate_recurrence(str(folder / "out"), **given, **quick(folder))
    return folder / "out", report


def test_forwards_are_those_of_the_walk(outcome):
    """Two steps, 1 then 0; the jump from 0 back to 1 is one renoising and one forward more."""
    _, report = outcome
    assert {name: cost["forwards"] for name, cost in report["costs"].items()} == {"none": 2, "twice": 3}
    assert all(cost["seconds"] > 0 for cost in report["costs"].values())


def test_only_the_recurrence_differs_and_it_does_something(outcome):
    out, _ = outcome
    for texture in PRESETS:
        one, other = (Output(out / f"{texture}_{name}", "ct") for name in RECURRENCES)
        assert [spec["seed"] for spec in one.specs] == [spec["seed"] for spec in other.specs]
        assert [spec["histogram"] for spec in one.specs] == [spec["histogram"] for spec in other.specs]
        assert (one.stored != other.stored).any()
        assert [o.sidecar["settings"]["jump_n_sample"] for o in (one, other)] == [1, 2]


def test_rows_are_means_of_the_table(outcome):
    out, report = outcome
    table = read_table(out / "recurrence.csv")
    assert len(table) == len(RECURRENCES) * len(PRESETS) * 2
    for row in report["rows"]:
        own = [r for r in table if (r["recurrence"], r["texture"]) == (row["recurrence"], row["texture"])]
        assert len(own) == 2
        for name in ("histogram_distance", "across", "seam", "mean_hu"):
            assert row[name] == pytest.approx(np.mean([float(r[name]) for r in own]))
    assert json.loads((out / "recurrence.json").read_text()) == json.loads(json.dumps(report))
    assert plt.imread(out / "recurrence.png").std() > 0.05


def test_borders_are_compared_with_those_of_the_healthy_scan_and_of_real_lesions(outcome):
    _, report = outcome
    assert report["healthy"]["across"] > 0
    assert report["real"]["lesions"] >= 1
    assert report["real"]["across"] > 3 * report["healthy"]["across"]  # made-up lesions have sharp borders


def test_borders_are_those_of_the_tight_crops(tmp_path):
    crops = made_up_crops(tmp_path, ["a", "b"], range(2))
    found = borders(crops)
    assert found[1] == border_steps(crops[1].tight_values, crops[1].tight_mask, (1, 1, 1))
    mean = averages([*found, dict.fromkeys(found[0], float("nan"))], ("across", "seam"))
    assert mean["across"] == pytest.approx((found[0]["across"] + found[1]["across"]) / 2)
    assert averages([{"seam": float("nan")}], ("seam",)) == {"seam": None}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"recurrences": "none"}, "recurrences must be"),
        ({"recurrences": {"a b": [1, 1]}}, "a name must consist of letters, digits and _, got 'a b'"),
        ({"recurrences": {"half": [0.5, 2]}}, "half must be two whole numbers of at least 1"),
        ({"recurrences": {"long": [10, 2]}}, "long jumps back 10 steps, the walk has only 10"),
        ({"num_inference_steps": "ten"}, "num_inference_steps must be a whole number, got 'ten'"),
        ({"jump_length": 2}, "jump_length is set by the evaluation itself"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(given, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        evaluate_recurrence(str(tmp_path / "out"), **given)
    assert not (tmp_path / "out").exists()
