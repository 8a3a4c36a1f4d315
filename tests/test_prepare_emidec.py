"""The cardiac challenge's download, sorted and checked: lossless copies with the true voxel size."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_components.datasets import list_cases
from custom_components.errors import InputError
from custom_components.phantoms import short_axis_phantom
from custom_components.volumes import read_scan
from lefusion_scripts.prepare_emidec import prepare_emidec

SPACING = (1.5, 1.5, 10.0)
PLACEHOLDER = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(values: np.ndarray, path: Path, affine: np.ndarray = PLACEHOLDER, zooms=SPACING) -> None:
    """A volume as the challenge distributes it: voxels of 1 mm in the affine, their true size in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, None)
    image.header.set_zooms(zooms)
    image.header.set_sform(affine, code=2)
    image.header["qform_code"] = 0
    nib.save(image, path)


def heart(seed: int, pathological: bool) -> tuple[np.ndarray, np.ndarray]:
    phantom = short_axis_phantom(seed, (96, 88, 5), SPACING, pathological)
    return phantom.image.astype(np.float64), phantom.labels.astype(np.float64)


def write_download(root: Path, cases: str = "P001 P005 N002") -> Path:
    """Case_P001/{Images,Contours}/Case_P001.nii.gz, its clinical text, and a case of the test part."""
    folder = root / "emidec-dataset-1.0.1"
    for seed, name in enumerate(cases.split()):
        image, labels = heart(seed, name[0] == "P")
        save(image, folder / f"Case_{name}" / "Images" / f"Case_{name}.nii.gz")
        save(labels, folder / f"Case_{name}" / "Contours" / f"Case_{name}.nii.gz")
        (folder / f"Case {name}.txt").write_text("Sex: F\nAge: 50\n")
    save(heart(9, True)[0], root / "test" / "Case_101" / "Images" / "Case_101.nii.gz")
    return root


def test_download_is_sorted_copied_voxel_for_voxel_and_gets_its_voxel_size(tmp_path, capsys):
    source, out = write_download(tmp_path / "src"), tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare_emidec(str(source), str(out)) == {"pathological": 2, "normal": 1}
        entries = {case["case"]: case for case in list_cases(out)}
        for case in entries.values():  # the copies need no guess at their voxel size
            np.testing.assert_allclose(read_scan(case["image"]).spacing_mm, SPACING)
            np.testing.assert_allclose(read_scan(case["label"]).spacing_mm, SPACING)
    assert {name: case["group"] for name, case in entries.items()} == {
        "Case_P001": "Pathological",
        "Case_P005": "Pathological",
        "Case_N002": "Normal",
    }
    case = entries["Case_P001"]
    original = nib.load(source / "emidec-dataset-1.0.1" / "Case_P001" / "Images" / "Case_P001.nii.gz")
    copy = nib.load(case["image"])
    np.testing.assert_array_equal(np.asarray(copy.dataobj), np.asarray(original.dataobj))
    assert copy.get_data_dtype() == original.get_data_dtype()
    assert nib.aff2axcodes(copy.affine) == nib.aff2axcodes(original.affine)
    labels = np.asarray(nib.load(case["label"]).dataobj)
    np.testing.assert_array_equal(labels, heart(0, True)[1])
    assert labels.dtype == np.uint8
    assert case["patient"] == "Case_P001"
    assert (case["spacing_mm"], case["spacing_from"]) == (list(SPACING), "header")
    assert case["volumes_mm3"]["mi"] == pytest.approx((labels == 3).sum() * 22.5)
    assert entries["Case_N002"]["volumes_mm3"]["mi"] == 0
    assert "CC BY-NC-SA 4.0" in (out / "NOTICE").read_text()
    assert "Lalande" in (out / "NOTICE").read_text()
    assert "1 without contours left out" in capsys.readouterr().out


def test_sorted_folders_with_a_true_affine_are_taken_as_they_are(tmp_path):
    affine = np.diag([-1.5, -1.5, 10.0, 1.0])
    affine[:3, 3] = 70, 60, -20
    for group, seed in (("Pathological", 1), ("Normal", 2)):
        image, labels = heart(seed, group == "Pathological")
        for kind, values in (("images", image / 16), ("labels", labels)):
            save(values.astype(np.uint8), tmp_path / "src" / group / kind / f"{group}_1.nii.gz", affine)
    assert prepare_emidec(str(tmp_path / "src"), str(tmp_path / "out")) == {"pathological": 1, "normal": 1}
    case = list_cases(tmp_path / "out")[1]
    assert (case["case"], case["group"], case["spacing_from"]) == ("Pathological_1", "Pathological", "affine")
    np.testing.assert_allclose(nib.load(case["image"]).affine, affine)


def test_bad_cases_are_told_one_sentence_each_skipped_and_listed(tmp_path, capsys):
    source, out = write_download(tmp_path / "src", "P001 P002 P003 N004 N005 P006 P007 P008"), tmp_path / "out"

    def case(name: str, kind: str) -> Path:
        return source / "emidec-dataset-1.0.1" / f"Case_{name}" / kind / f"Case_{name}.nii.gz"

    image, labels = heart(1, True)
    save(labels[:-1], case("P002", "Contours"))
    save(np.where(labels == 3, 7, labels), case("P003", "Contours"))
    save(labels, case("N004", "Contours"))
    save(np.where(image == image.max(), np.nan, image), case("N005", "Images"))
    case("P006", "Contours").unlink()
    save(labels, case("P007", "Contours"), zooms=(1.5, 1.5, 8.0))
    save(image, case("P008", "Images").with_name("second.nii.gz"))
    with pytest.raises(SystemExit) as stop:
        prepare_emidec(str(source), str(out))
    assert stop.value.code == 3
    failed = {row["case"]: row["error"] for row in map(json.loads, (out / "failed.jsonl").read_text().splitlines())}
    for name, told in {
        "P002": "has shape (95, 88, 5)",
        "P003": "must hold whole numbers from 0 to 4, it holds 7",
        "N004": "of a normal case holds a lesion",
        "N005": "NaN",
        "P006": "has no label",
        "P007": "lies on another grid",
        "P008": "it holds 2 and 1",
    }.items():
        assert told in failed[f"Case_{name}"]
        assert "\n" not in failed[f"Case_{name}"]
    assert len(failed) == 7
    assert [entry["case"] for entry in list_cases(out)] == ["Case_P001"]
    assert "7 failed" in capsys.readouterr().out


def test_rerun_completes_and_another_source_needs_overwrite(tmp_path):
    source, out = write_download(tmp_path / "src"), tmp_path / "out"
    prepare_emidec(str(source), str(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    lost, kept = sorted(out.glob("*/images/*.nii.gz"))[:2]
    lost.unlink()
    (out / "datalist.json").unlink()
    stamp = kept.stat().st_mtime_ns
    prepare_emidec(str(source), str(out))
    assert {path: path.read_bytes() for path in before} == before
    assert kept.stat().st_mtime_ns == stamp
    other = write_download(tmp_path / "other", "P009")
    with pytest.raises(InputError, match="--overwrite true"):
        prepare_emidec(str(other), str(out))
    prepare_emidec(str(other), str(out), overwrite=True)
    assert [path.name for path in out.glob("*/images/*")] == ["Case_P009.nii.gz"]


def test_folder_without_cases_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("absent", "does not exist"), ("empty", "neither cases with Images and Contours")):
        with pytest.raises(InputError, match=message):
            prepare_emidec(str(tmp_path / name), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_native_sample_gets_the_voxel_size_of_its_header(data_dir, tmp_path):
    sample = data_dir / "emidec_native"
    if not sample.is_dir():
        pytest.skip(f"no folder {sample}")
    for kind, name in (("Images", "image"), ("Contours", "labels")):
        (tmp_path / "src" / "Case_N001" / kind).mkdir(parents=True)
        target = tmp_path / "src" / "Case_N001" / kind / "Case_N001.nii.gz"
        target.symlink_to(sample / f"emidec_sampleNegative_{name}.nii.gz")
    prepare_emidec(str(tmp_path / "src"), str(tmp_path / "out"))
    (case,) = list_cases(tmp_path / "out")
    assert (case["group"], case["spacing_mm"]) == ("Normal", [1.4583, 1.4583, 10.0])
    original = nib.load(sample / "emidec_sampleNegative_image.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(case["image"]).dataobj), np.asarray(original.dataobj))


@pytest.mark.integration
def test_training_is_the_next_command(tmp_path):
    out = tmp_path / "out"
    lefusion = [sys.executable, "-m", "lefusion_scripts.cli"]
    source = write_download(tmp_path / "src", "P001 P003 N002")
    done = subprocess.run([*lefusion, "prepare", "emidec", str(source), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"lefusion run training --bundle lefusion_emidec --dataset_dir {out}" in done.stdout
    small = [
        "--max_epochs",
        "1",
        "--repeats",
        "1",
        "--batch_size",
        "1",
        "--val_repeats",
        "1",
        "--spatial_size",
        "[48,48,8]",
    ]
    small += [
        "--spatial_size",
        "[48,48,8]",
        "--crop_size",
        "[48,48,8]",
        "--network_def#channels",
        "[8,8,8]",
        "--network_def#fine_channels",
        "8",
    ]
    small += ["--network_def#num_head_channels", "8", "--picture_interval", "9"]
    run = [*lefusion, "run", "training", "--bundle", "lefusion_emidec", "--dataset_dir", str(out)]
    done = subprocess.run([*run, "--output_dir", str(tmp_path / "run"), *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "checkpoints" / "model.pt").is_file()
