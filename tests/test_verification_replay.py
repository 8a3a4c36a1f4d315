"""Sets as the runner leaves them: they are as recorded, and their cases can be made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_series import write_dicom_series
from recorded_sets import write_scans, write_set

from custom_components.errors import InputError
from custom_components.synthesis import runner
from custom_components.synthesis.options import read_options
from custom_components.synthesis.records import read_manifest
from custom_components.synthesis.verification import check_replay, verify_set

SHAPE, SPACING = (34, 30, 16), (0.9, 0.8, 2.0)
QUICK = {"num_inference_steps": 1, "spatial_size": [32, 32, 32]}


def write_data_set(folder: Path) -> Path:
    """A NIfTI scan and a DICOM series of aired lung, with two lesions and one."""
    rng = np.random.default_rng(4)
    values = rng.normal(-850, 40, SHAPE).astype(np.int16)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    nib.save(nib.Nifti1Image(values, affine), folder / "images" / "a b.nii.gz")
    write_dicom_series(folder / "images" / "d.1", values, SPACING, (-90.3, -140.5, 33.7))
    label = np.zeros(SHAPE, np.uint8)
    label[5:11, 6:12, 3:6] = 1
    moved = affine.copy()
    moved[:3, 3] = (90.3, 140.5, 33.7)
    nib.save(nib.Nifti1Image(label, moved), folder / "labels" / "d.1.nii.gz")
    label[20:26, 18:24, 9:13] = 1
    nib.save(nib.Nifti1Image(label, affine), folder / "labels" / "a b.nii.gz")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with data/ and a set of nnU-Net's layout that the runner painted with the shipped weights."""
    folder = tmp_path_factory.mktemp("made")
    options = read_options(
        input=str(write_data_set(folder / "data")),
        output=str(folder / "set"),
        bundle="lefusion_lidc",
        masks="given",
        layout="nnunet",
        panel=False,
        overrides=QUICK,
    )
    assert runner.synthesise(options, progress=False) == []
    return folder


@pytest.mark.integration
def test_set_of_the_runner_is_as_recorded(made):
    assert [record["case"] for record in read_manifest(made / "set")] == ["a b", "d.1"]
    assert verify_set(made / "set", progress=False) == []


@pytest.mark.integration
def test_set_and_source_that_moved_are_as_recorded(made, tmp_path):
    shutil.copytree(made, tmp_path / "moved")
    assert verify_set(tmp_path / "moved" / "set", tmp_path / "moved" / "data", progress=False) == []


@pytest.mark.integration
def test_changed_slice_of_a_dicom_source_is_found(made, tmp_path):
    shutil.copytree(made, tmp_path / "moved")
    series = tmp_path / "moved" / "data" / "images" / "d.1"
    with next(series.iterdir()).open("ab") as stream:
        stream.write(b"\0")
    (finding,) = verify_set(tmp_path / "moved" / "set", tmp_path / "moved" / "data", progress=False)
    assert finding == (str(series), "has changed since lesions were painted into it.", "d.1")


@pytest.mark.integration
def test_case_made_again_has_the_same_bytes(made, tmp_path):
    assert check_replay(made / "set", "a b", tmp_path) == []
    assert not (tmp_path / "manifest.jsonl").exists()


# ----------------------------------------------------------------------------------------- without the networks


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A set whose cases are "made again" by copying them."""
    layout = write_set(tmp_path / "set", write_scans(tmp_path / "scans"))

    def copy_case(root, case, output_dir, source=None):
        copies = {}
        for role, path in layout.paths(case).items():
            copies[role] = Path(output_dir) / role / path.name
            copies[role].parent.mkdir()
            shutil.copy(tmp_path / "kept" / path.relative_to(layout.root), copies[role])
        return copies

    shutil.copytree(layout.root, tmp_path / "kept")
    monkeypatch.setattr(runner, "replay_case", copy_case)
    return layout.root


@pytest.mark.parametrize("role", ["images", "labels", "instances"])
def test_file_that_is_not_the_one_made_again_is_found(root, tmp_path, role):
    (tmp_path / "out").mkdir()
    (root / role / "a.nii.gz").write_bytes(b"?")
    (finding,) = check_replay(root, "a", tmp_path / "out")
    assert finding == (f"{role}/a.nii.gz", "is another file than the one that is made again.", "a")


def test_sidecar_that_tells_of_other_lesions_than_are_made_again_is_found(root, tmp_path):
    path = root / "sidecars" / "a.json"
    sidecar = json.loads(path.read_text())
    sidecar["lesions"][0]["spec"]["seed"] = 8
    path.write_text(json.dumps(sidecar))
    (tmp_path / "out").mkdir()
    (finding,) = check_replay(root, "a", tmp_path / "out")
    assert finding.sentence == "tells something else of lesions than the one that is made again."


def test_unknown_case_is_one_sentence(root, tmp_path):
    with pytest.raises(InputError, match="has no case 'c'"):
        check_replay(root, "c", tmp_path)
