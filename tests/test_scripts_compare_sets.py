"""The command that compares sets of lesions: its report, its pictures, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_lesions import write_lesions
from PIL import Image
from synthetic_sets import small_set

from custom_components.errors import InputError
from lefusion_scripts import compare_sets as module
from lefusion_scripts.compare_sets import FILES, compare_sets

REAL = 40
QUICK = {"repeats": 40, "size": 16, "components": 4, "progress": False}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Real lesions; lesions of the same kind; brighter ones; and lesions of the same kind of which half are copies."""
    root = tmp_path_factory.mktemp("sets")
    new = [f"n{n}" for n in range(20)]
    write_lesions(root / "real", [f"r{n}" for n in range(REAL)], range(REAL))
    write_lesions(root / "alike", new, range(100, 120))
    write_lesions(root / "brighter", new, range(100, 120), brightness=400)
    write_lesions(root / "copied", new, [*range(10), *range(200, 210)])
    return root


def report(sets: Path, name: str, output: Path, **options) -> dict:
    compare_sets(str(sets / "real"), str(sets / name), str(output), **{**QUICK, **options})
    return json.loads((output / "comparison.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """Pictures take longer than all the rest; the real process of the last test draws them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_closest_pairs", "save_feature_distributions", "save_nearest_distances"):
            patch.setattr(module, name, lambda *given: next(p for p in given if isinstance(p, Path)).touch())
        yield


@pytest.fixture(scope="module")
def reports(sets) -> dict[str, dict]:
    """Of each set."""
    return {name: report(sets, name, sets / "reports" / name) for name in ("alike", "brighter", "copied")}


@pytest.mark.parametrize("name", ["frechet", "kernel", "sliced_wasserstein"])
def test_lesions_of_the_same_kind_are_as_near_as_halves_of_the_real_and_brighter_ones_farther(reports, name):
    alike, brighter = (reports[key]["distances"][name] for key in ("alike", "brighter"))
    assert alike["difference"]["low"] < 0 < alike["difference"]["high"]
    assert brighter["difference"]["low"] > 0
    assert brighter["whole_sets"] > alike["whole_sets"]


def test_feature_that_differs_is_named(reports):
    features = reports["brighter"]["features"]
    assert features["mean"]["synthetic_mean"] > features["mean"]["real_mean"] + 100
    assert features["mean"]["wasserstein"] > 3 * features["log_volume"]["wasserstein"]


def test_copies_are_found(reports):
    alike, copied = reports["alike"]["memorisation"], reports["copied"]["memorisation"]
    for key in ("voxels", "features"):
        assert copied[key]["all"]["nearer_than_percentile_1"]["value"] >= 0.5
        assert copied[key]["all"]["nearer_than_percentile_1"]["low"] > 0.2
        assert alike[key]["all"]["nearer_than_percentile_1"]["value"] <= 0.1
    copies = [entry for entry in copied["lesions"] if entry["voxel_distance"] < 1e-3]
    assert {(entry["lesion"], entry["nearest_by_voxels"]) for entry in copies} == {
        (f"n{n}", f"r{n}") for n in range(10)
    }


def test_lesions_in_the_masks_of_training_lesions_are_also_compared_with_the_others(reports):
    found = reports["copied"]["memorisation"]["voxels"]
    assert found["all"]["nearest_has_the_same_mask"] == pytest.approx(0.5, abs=0.1)
    assert found["other_masks"]["nearest_has_the_same_mask"] == 0
    assert found["other_masks"]["nearer_than_percentile_1"]["value"] <= 0.1
    assert "other_masks" not in reports["alike"]["memorisation"]["voxels"]


def test_training_lesions_are_taken_from_their_own_set(sets, tmp_path):
    found = report(sets, "copied", tmp_path, training=str(sets / "alike"))
    assert found["sets"]["training"]["lesions"] == found["memorisation"]["training_lesions"] == 20
    assert found["memorisation"]["voxels"]["all"]["nearer_than_percentile_1"]["value"] <= 0.1


def test_copies_are_found_among_more_training_lesions_than_are_compared(sets, tmp_path):
    found = report(sets, "copied", tmp_path, count=20)
    assert {key: part["lesions"] for key, part in found["sets"].items()} == {
        "real": 20,
        "synthetic": 20,
        "training": REAL,
    }
    assert sum(entry["voxel_distance"] < 1e-3 for entry in found["memorisation"]["lesions"]) == 10


def test_set_that_repeats_itself_is_less_diverse(sets, tmp_path):
    write_lesions(tmp_path / "same", [f"n{n}" for n in range(20)], [300] * 10 + [301] * 10)
    compare_sets(str(sets / "real"), str(tmp_path / "same"), str(tmp_path / "out"), **QUICK)
    diversity = json.loads((tmp_path / "out" / "comparison.json").read_text())["diversity"]
    assert diversity["synthetic"]["feature_spread"]["high"] < diversity["real"]["feature_spread"]["low"]
    assert diversity["synthetic"]["random_pairs"]["ssim"]["value"] > diversity["real"]["random_pairs"]["ssim"]["value"]
    assert diversity["synthetic"]["random_pairs"]["psnr"] is None  # of equal lesions it is infinite


def test_pairs_of_lesions_in_one_mask_are_compared_apart(reports, sets, tmp_path):
    assert reports["alike"]["diversity"]["synthetic"]["same_mask_pairs"] is None
    for name, brightness in (("one", 0), ("two", 60)):
        write_lesions(tmp_path / name, [f"s{n}" for n in range(8)], range(8), brightness)
    entries = [
        {"image": f"{name}/images/s{n}.nii.gz", "label": f"{name}/labels/s{n}.nii.gz", "patient": f"s{n}"}
        for name in ("one", "two")
        for n in range(8)
    ]
    (tmp_path / "datalist.json").write_text(json.dumps(entries))
    compare_sets(str(sets / "real"), str(tmp_path), str(tmp_path / "out"), **QUICK)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())["diversity"]["synthetic"]
    assert (found["same_mask_pairs"]["pairs"], found["random_pairs"]["pairs"]) == (8, 16 * 15 / 2)
    for name in ("ssim", "psnr"):
        assert found["same_mask_pairs"][name]["low"] > found["random_pairs"][name]["high"]
        assert (
            found["random_pairs"][name]["low"]
            < found["random_pairs"][name]["value"]
            < found["random_pairs"][name]["high"]
        )


def test_same_seed_gives_the_same_report(sets, reports, tmp_path):
    assert report(sets, "alike", tmp_path / "again") == reports["alike"]
    (tmp_path / "elsewhere").symlink_to(sets)
    assert report(tmp_path / "elsewhere", "alike", tmp_path / "linked") == reports["alike"]
    assert report(sets, "alike", tmp_path / "other", seed=1)["distances"] != reports["alike"]["distances"]


def test_table_tells_sizes_distances_and_shares(sets, tmp_path, capsys):
    report(sets, "copied", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lesions: real 40, synthetic 20; 4 dimensions of first-order, shape and texture features"
    assert any(line.startswith("Frechet distance to half of real") for line in lines)
    assert any(line.startswith("  nearer than 1 % of the real") and "50% [" in line for line in lines)


def test_synthetic_set_with_a_manifest_is_compared(sets, tmp_path):
    small_set(tmp_path / "set", cases=4)
    compare_sets(str(sets / "real"), str(tmp_path / "set"), str(tmp_path / "out"), **{**QUICK, "components": 2})
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["sets"]["synthetic"]["lesions"] == 7


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"components": None}, "the real set has lesions of 3 patients, its halves need 4"),
        ({"labels": 7}, r"real set .*none of its 3 label maps holds a lesion \(label 7\)"),
        ({"labels": "x"}, "labels must be whole numbers from 1 to 255, got 'x'"),
        ({"spacing": [1, 2]}, "spacing must be one or three numbers"),
        ({"window": (400, -1000)}, r"window must be two rising numbers, got \(400, -1000\)"),
        ({"repeats": 0}, "repeats must be a whole number, 1 or more, got 0"),
        ({"features": "inception"}, "features must be 'lesion', a TorchScript file"),
        ({"training": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence, tmp_path):
    write_lesions(tmp_path / "few", list("abc"), range(3))
    with pytest.raises(InputError, match=sentence):
        compare_sets(str(tmp_path / "few"), str(tmp_path / "few"), str(tmp_path / "out"), **{**QUICK, **options})
    assert not list((tmp_path / "out").glob("*"))


def test_too_few_lesions_for_the_covariance_tells_how_many_it_takes(sets, tmp_path):
    write_lesions(tmp_path / "few", list("abcdef"), range(6))
    with pytest.raises(
        InputError, match=r"synthetic set has 6 lesions, the covariance of 18 features needs at least 19"
    ):
        compare_sets(str(sets / "real"), str(tmp_path / "few"), str(tmp_path / "out"), **{**QUICK, "components": None})


@pytest.mark.integration
def test_command_writes_report_and_pictures_and_keeps_what_exists(sets, tmp_path):
    command = [sys.executable, "-m", "lefusion_scripts.cli", "compare-sets", str(sets / "real"), str(sets / "alike")]
    command += ["--output", str(tmp_path / "out"), "--components", "4", "--repeats", "5", "--size", "16"]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    for name in FILES[1:]:
        assert min(Image.open(tmp_path / "out" / name).size) > 300
    assert again.returncode == 2
    assert again.stderr == f"error: {tmp_path / 'out' / FILES[0]} exists: pass --overwrite true or another --output.\n"
