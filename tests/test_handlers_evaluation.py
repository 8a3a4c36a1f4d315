"""The table of measures that an evaluation writes, and its summary."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib import pyplot as plt
from monai.data import DataLoader, Dataset
from scipy.stats import wasserstein_distance
from textured_balls import GRID, ball, picture

from custom_components.errors import InputError
from custom_components.handlers import LesionEvaluation

BACKGROUND = np.float32(-0.8)


def bin_shares(values: np.ndarray) -> np.ndarray:
    return np.histogram(values, bins=16, range=(-1, 1))[0] / values.size


def lesion(seed: int, change: float, radius: float = 4) -> dict[str, torch.Tensor]:
    """A textured ball in an even background, painted with ``change`` added; the request is what was painted."""
    mask = ball(radius)
    values = np.random.default_rng(seed).uniform(-0.4, 0.4, GRID).astype(np.float32)
    real = np.where(mask, values, BACKGROUND)
    painted = np.where(mask, values + np.float32(change), BACKGROUND)
    return {
        "image": torch.from_numpy(real)[None],
        "label": torch.from_numpy(mask.astype(np.float32))[None],
        "histogram": torch.from_numpy(bin_shares(painted[mask]).astype(np.float32))[None],
        "pred": torch.from_numpy(painted)[None],
    }


def evaluate(items: list[dict[str, torch.Tensor]], handler: LesionEvaluation, batch_size: int = 2) -> Engine:
    engine = Engine(lambda engine, batch: {"pred": batch["pred"]})
    handler.attach(engine)
    engine.run(DataLoader(Dataset(items), batch_size=batch_size), max_epochs=1)
    return engine


def read_summary(folder) -> dict:
    """The summary, read as strict JSON: NaN and Infinity are none."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads((folder / "summary.json").read_text(), parse_constant=refuse)


def test_measures_of_a_known_change(tmp_path):
    items = [lesion(0, 0.1, radius=4), lesion(1, -0.1, radius=3)]
    handler = LesionEvaluation(tmp_path, window=(-1000, 400), pictures=1)
    engine = evaluate(items, handler)
    assert [(row["lesion"], row["filling"]) for row in handler.rows] == [
        (number, filling) for number in (0, 1) for filling in ("painted", "surroundings", "mean")
    ]
    rows = {(row["lesion"], row["filling"]): row for row in handler.rows}
    centres = (np.arange(16) + 0.5) / 8 - 1
    for number, change in ((0, 0.1), (1, -0.1)):
        real, mask = items[number]["image"][0].numpy(), items[number]["label"][0].numpy() > 0
        own = bin_shares(real[mask])
        painted, surroundings, mean = (rows[number, name] for name in ("painted", "surroundings", "mean"))
        assert {row["voxels"] for row in (painted, surroundings, mean)} == {int(mask.sum())}
        assert {row["max_outside"] for row in (painted, surroundings, mean)} == {0.0}
        assert painted["psnr_lesion"] == pytest.approx(10 * math.log10(4 / 0.01), abs=1e-3)
        assert painted["psnr_crop"] == pytest.approx(10 * math.log10(4 / (0.01 * mask.mean())), abs=1e-3)
        assert painted["mean_difference"] == pytest.approx(change * 700, abs=0.01)
        assert painted["spread_ratio"] == pytest.approx(1, abs=1e-4)
        assert painted["distance_to_request"] == pytest.approx(0, abs=1e-6)
        shares = bin_shares(items[number]["pred"][0].numpy()[mask])
        expected = wasserstein_distance(centres, centres, own, shares)
        assert painted["distance_to_real"] == pytest.approx(expected, abs=1e-5)
        assert surroundings["mean_difference"] == pytest.approx(700 * (BACKGROUND - real[mask].mean()), abs=0.01)
        assert surroundings["spread_ratio"] == pytest.approx(0, abs=1e-5)
        assert surroundings["distance_to_real"] == pytest.approx(
            wasserstein_distance(centres, centres, own, bin_shares(np.full(9, BACKGROUND))), abs=1e-5
        )
        assert mean["mean_difference"] == pytest.approx(0, abs=0.01)
        assert mean["psnr_lesion"] == pytest.approx(10 * math.log10(4 / real[mask].var()), abs=1e-3)
        for row in (painted, surroundings, mean):
            assert row["ssim_lesion"] < row["ssim_crop"] <= 1
    assert engine.state.metrics["mean_difference"] == pytest.approx(70, abs=0.01)


def test_units_of_the_mean_difference_follow_the_window(tmp_path):
    handler = LesionEvaluation(tmp_path, window=(0, 20), pictures=1)
    evaluate([lesion(0, 0.1)], handler)
    assert handler.rows[0]["mean_difference"] == pytest.approx(1, abs=1e-4)


def test_a_single_voxel_changed_outside_the_mask_is_found(tmp_path):
    items = [lesion(0, 0.1), lesion(1, 0.1)]
    items[1]["pred"][0, 0, 0, 0] += 0.25
    handler = LesionEvaluation(tmp_path, pictures=1)
    evaluate(items, handler)
    painted = [row["max_outside"] for row in handler.rows if row["filling"] == "painted"]
    assert painted == [0.0, 0.25]
    assert read_summary(tmp_path)["classes"]["lesion"]["fillings"]["painted"]["max_outside"] == 0.25


def test_summary_averages_over_lesions_of_a_class_with_absolute_mean_difference_and_largest_outside():
    def row(number, lesion_class, filling, psnr_crop, mean_difference, max_outside):
        return {
            "lesion": number,
            "class": lesion_class,
            "filling": filling,
            "voxels": 10 + 90 * number,
            "psnr_crop": psnr_crop,
            "mean_difference": mean_difference,
            "max_outside": max_outside,
        }

    handler = LesionEvaluation("nowhere", classes=("scar", "core"))
    handler.rows = [
        row(0, "scar", "painted", 30.0, -50.0, 0.0),
        row(0, "scar", "surroundings", 20.0, -300.0, 0.0),
        row(0, "scar", "mean", 40.0, 0.0, 0.0),
        row(0, "core", "painted", 12.0, 8.0, 0.25),
        row(0, "core", "surroundings", 11.0, 9.0, 0.0),
        row(0, "core", "mean", 13.0, 0.0, 0.0),
        row(1, "scar", "painted", 20.0, 30.0, 0.5),
        row(1, "scar", "surroundings", 10.0, -100.0, 0.0),
        row(1, "scar", "mean", 20.0, 0.0, 0.0),
    ]
    assert handler.summary("scar") == {
        "painted": {"psnr_crop": 25.0, "mean_difference": 40.0, "max_outside": 0.5},
        "surroundings": {"psnr_crop": 15.0, "mean_difference": 200.0, "max_outside": 0.0},
        "mean": {"psnr_crop": 30.0, "mean_difference": 0.0, "max_outside": 0.0},
    }
    assert handler.summary("core")["painted"] == {"psnr_crop": 12.0, "mean_difference": 8.0, "max_outside": 0.25}
    assert handler.summary("of no lesion") == {}


def joint_lesion(
    seed: int, scar: float, core: float, real: tuple[float, float] = (0.5, 0.1)
) -> dict[str, torch.Tensor]:
    """A shell of scar around a core, in a wall of -0.4; painted with the given means."""
    shell, inner, image = ball(4) & ~ball(2), ball(2), 0.01 * picture(seed)
    painted = image.copy()
    for mask, before, after in ((shell, real[0], scar), (inner, real[1], core)):
        image[mask] += before
        painted[mask] += after
    wall = ball(6) & ~ball(4)
    for volume in (image, painted):
        volume[wall] -= 0.4
    as_tensor = [np.stack(part).astype(np.float32) for part in ([image], [shell, inner], [wall], [painted])]
    item = dict(zip(("image", "label", "anatomy", "pred"), map(torch.tensor, as_tensor), strict=True))
    return {**item, "histogram": torch.full((2, 16), 1 / 16)}


JOINT = {"window": None, "classes": ("scar", "core"), "anatomy": ("wall",), "pictures": 1}


def test_classes_are_measured_apart_and_differences_left_in_the_network_s_units(tmp_path):
    handler = LesionEvaluation(tmp_path, **JOINT)
    engine = evaluate([joint_lesion(0, 0.7, 0.0), joint_lesion(1, 0.4, 0.3)], handler)
    shell, inner = int((ball(4) & ~ball(2)).sum()), int(ball(2).sum())
    painted = [row for row in handler.rows if row["filling"] == "painted"]
    assert [(row["lesion"], row["class"], row["voxels"]) for row in painted] == [
        (0, "scar", shell),
        (0, "core", inner),
        (1, "scar", shell),
        (1, "core", inner),
    ]
    assert [row["mean_difference"] for row in painted] == pytest.approx([0.2, -0.1, -0.1, 0.2], abs=1e-5)
    assert {row["max_outside"] for row in handler.rows} == {0.0}
    classes = read_summary(tmp_path)["classes"]
    assert {name: part["lesions"] for name, part in classes.items()} == {"scar": 2, "core": 2}
    assert classes["core"]["fillings"]["painted"]["mean_difference"] == pytest.approx(0.15, abs=1e-5)
    assert engine.state.metrics["core_mean_difference"] == pytest.approx(0.15, abs=1e-5)


def test_class_that_no_lesion_has_is_left_out(tmp_path, capsys):
    item = joint_lesion(0, 0.7, 0.0)
    item["label"][1] = 0
    other = joint_lesion(1, 0.7, 0.0)
    handler = LesionEvaluation(tmp_path, **JOINT, contrasts=[["core", "scar"]])
    evaluate([item, other], handler)
    assert {name: part["lesions"] for name, part in read_summary(tmp_path)["classes"].items()} == {"scar": 2, "core": 1}
    assert read_summary(tmp_path)["contrasts"]["core < scar"]["lesions"] == 1
    other["label"][1] = 0
    evaluate([item, other], handler)
    summary = read_summary(tmp_path)
    assert list(summary["classes"]) == ["scar"] and summary["lesions"] == 2
    assert summary["contrasts"] == {}


def test_contrasts_count_the_lesions_in_which_darker_is_darker(tmp_path, capsys):
    """Painted: scar above core in two of three lesions, wall below core in one; real: always, and always."""
    items = [joint_lesion(0, 0.6, 0.0), joint_lesion(1, 0.6, -0.7), joint_lesion(2, -0.6, -0.5)]
    handler = LesionEvaluation(tmp_path, **JOINT, contrasts=[["core", "scar"], ["wall", "core"]])
    evaluate(items, handler)
    assert read_summary(tmp_path)["contrasts"] == {
        "core < scar": {"lesions": 3, "real": 1.0, "painted": pytest.approx(2 / 3)},
        "wall < core": {"lesions": 3, "real": 1.0, "painted": pytest.approx(1 / 3)},
    }
    assert "core < scar: 67% of the painted, 100% of the real, of 3 lesions" in capsys.readouterr().out


def test_files_hold_every_row_and_the_means(tmp_path, capsys):
    handler = LesionEvaluation(tmp_path / "results", pictures=2)
    evaluate([lesion(seed, 0.1) for seed in range(3)], handler)
    with open(tmp_path / "results" / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [{key: str(value) for key, value in row.items()} for row in handler.rows] == rows
    summary = read_summary(tmp_path / "results")
    assert summary["lesions"] == 3
    assert summary["classes"]["lesion"]["fillings"] == handler.summary("lesion")
    assert len(handler.shown) == 2
    assert plt.imread(tmp_path / "results" / "lesions.png").std() > 0.05
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "lesions.png",
        "metrics.csv",
        "summary.json",
    ]
    printed = capsys.readouterr().out
    assert "psnr_lesion" in printed
    assert "3 lesions" in printed


def test_measures_do_not_depend_on_the_batch_and_a_second_run_starts_anew(tmp_path):
    items = [lesion(seed, 0.1) for seed in range(3)]
    handler = LesionEvaluation(tmp_path, pictures=1)
    evaluate(items, handler, batch_size=1)
    first = handler.rows
    evaluate(items, handler, batch_size=3)
    assert handler.rows == first


def test_summary_stays_json_where_a_measure_has_no_value(tmp_path):
    even = lesion(0, 0.1)
    mask = even["label"] > 0
    even["image"][mask] = 0.25  # no spread to compare with, and its mean fills it perfectly
    even["histogram"][:] = 0  # nothing was requested: no distance to it
    handler = LesionEvaluation(tmp_path, pictures=1)
    evaluate([even], handler)
    fillings = read_summary(tmp_path)["classes"]["lesion"]["fillings"]
    assert fillings["mean"]["psnr_lesion"] is None
    assert fillings["painted"]["distance_to_request"] is None
    assert fillings["painted"]["spread_ratio"] is None
    assert math.isfinite(fillings["painted"]["psnr_lesion"])


def test_lesion_without_a_measure_is_left_out_of_its_mean(tmp_path):
    even = lesion(0, 0.1)
    even["image"][even["label"] > 0] = 0.25
    handler = LesionEvaluation(tmp_path, pictures=1)
    evaluate([even, lesion(1, 0.1)], handler)
    fillings = read_summary(tmp_path)["classes"]["lesion"]["fillings"]
    assert fillings["painted"]["spread_ratio"] == pytest.approx(1, abs=1e-4)
    assert fillings["mean"]["psnr_lesion"] == handler.rows[-1]["psnr_lesion"]


def test_existing_results_are_refused_without_overwrite(tmp_path):
    LesionEvaluation(tmp_path / "new").check()
    assert not (tmp_path / "new").exists()
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"summary\.json exists already: pass --overwrite true"):
        LesionEvaluation(tmp_path).check()
    LesionEvaluation(tmp_path, overwrite=True).check()


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output_dir"):
        LesionEvaluation(tmp_path / "file" / "results").check()
