"""The command that writes a synthetic set as DICOM."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from dicom_series import paint_set, write_series
from synthetic_sets import small_set

from custom_components.errors import InputError
from custom_components.synthesis.records import read_manifest, write_manifest
from custom_components.volumes import read_scan
from lefusion_scripts.export_dicom import export_dicom


@pytest.fixture
def root(tmp_path):
    """A set of two series, one of them of MR."""
    write_series(tmp_path / "in" / "ct")
    write_series(tmp_path / "in" / "mr", "sagittal", modality="MR", intercept=0)
    return paint_set(tmp_path / "set", [tmp_path / "in" / "ct", tmp_path / "in" / "mr"], (500, 300))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.integration
def test_command_exports_every_case(root, tmp_path):
    command = [sys.executable, "-m", "lefusion_scripts.cli", "export", "dicom", str(root), "out"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    assert "2 of 2 cases as DICOM in out" in process.stdout
    for case in ("ct_s1", "mr_s1"):
        assert names(tmp_path / "out" / case) == ["image", "segmentation.dcm"]
        image = nib.load(root / "images" / f"{case}.nii.gz")
        scan = read_scan(tmp_path / "out" / case / "image")
        np.testing.assert_array_equal(scan.stored, np.asarray(image.dataobj))
        np.testing.assert_allclose(scan.affine, image.affine, atol=1e-5)


def test_one_case_of_a_moved_input(root, tmp_path, capsys):
    (tmp_path / "in").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="--source names the input folder"):
        export_dicom(str(root), str(tmp_path / "out"))
    export_dicom(str(root), str(tmp_path / "out"), case="mr_s1", source=str(tmp_path / "moved"))
    assert names(tmp_path / "out") == ["mr_s1"]
    assert "1 of 1 cases" in capsys.readouterr().out


def test_existing_cases_are_replaced_only_when_asked(root, tmp_path):
    export_dicom(str(root), str(tmp_path / "out"), case="ct_s1")
    (tmp_path / "out" / "ct_s1" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"ct_s1 exists; --overwrite true"):
        export_dicom(str(root), str(tmp_path / "out"))
    assert names(tmp_path / "out" / "ct_s1") == ["image", "mine.txt", "segmentation.dcm"]
    export_dicom(str(root), str(tmp_path / "out"), overwrite=True)
    assert names(tmp_path / "out") == ["ct_s1", "mr_s1"]
    assert names(tmp_path / "out" / "ct_s1") == ["image", "segmentation.dcm"]


def test_failing_case_is_told_and_the_others_are_written(root, tmp_path, capsys):
    (tmp_path / "in" / "ct" / "900.dcm").unlink()
    with pytest.raises(SystemExit) as stop:
        export_dicom(str(root), str(tmp_path / "out"))
    assert stop.value.code == 3
    assert names(tmp_path / "out") == ["mr_s1"]
    printed = capsys.readouterr()
    assert "error: case ct_s1: its source" in printed.err
    assert "1 of 2 cases" in printed.out


def test_cases_without_a_dicom_source_are_left_out_or_refused(root, tmp_path, capsys):
    other = small_set(tmp_path / "other", 1)
    (tmp_path / "in" / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"no case of .* comes from a DICOM series: that of scan_0000_s1 is scan\.nii"):
        export_dicom(str(other), str(tmp_path / "out"), source=str(tmp_path / "in"))
    write_manifest(root, [*read_manifest(root), *read_manifest(other)])
    export_dicom(str(root), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["ct_s1", "mr_s1"]
    assert "1 cases do not come from a DICOM series" in capsys.readouterr().out


def test_unknown_case_and_folder_are_one_sentence(root, tmp_path):
    with pytest.raises(InputError, match="holds no case x"):
        export_dicom(str(root), str(tmp_path / "out"), case="x")
    with pytest.raises(InputError, match="is no synthetic data set"):
        export_dicom(str(tmp_path), str(tmp_path / "out"))


def test_missing_package_is_named(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    for name in [name for name in sys.modules if name.startswith("custom_components.dicom_export")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"needs the package highdicom: pip install 'lefusion-monai\[dicom\]'"):
        export_dicom(str(root), str(tmp_path / "out"))
