"""The command that writes a mixture of lists as a raw data set of nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import command, save_nifti, stored_of
from segmentation_runs import save_manifest, save_nodules

from custom_components.errors import InputError
from lefusion_scripts.export_nnunet import export_nnunet

AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.7, 0, 4], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """``real``: six patients, one twice, and a test; ``painted`` (from a's scan) and ``marked`` are synthetic."""
    root = tmp_path_factory.mktemp("sets")
    save_nodules(root / "files", "abcdefgh", 8)
    pair = {n: {"image": f"files/images/{n}.nii.gz", "label": f"files/labels/{n}.nii.gz"} for n in "abcdefgh"}
    entries = [{**pair[n], "patient": "a" if n == "b" else n} for n in "abcdefgh"]
    (root / "real.json").write_text(json.dumps({"training": entries[:7], "test": entries[7:]}))
    save_nodules(root / "painted", ["a_s1", "a_s2"], 8)
    save_manifest(root / "painted", {"a_s1": "a", "a_s2": "a"})
    save_nodules(root / "marked", ["a"], 8)
    image = nib.load(root / "marked" / "images" / "a.nii.gz")
    image.header["descrip"] = b"SYNTHETIC lesion"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), root / "marked" / "images" / "a.nii.gz")
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.integration
def test_command_writes_what_nnunet_takes(sets, tmp_path):
    lists = f"[{sets}/real.json#training,{sets}/painted*2,{sets}/marked]"
    arguments = ["raw", "--lists", lists, "--test_lists", f"[{sets}/real.json#test]", "--dataset_id", "512"]
    process = command("export", "nnunet", *arguments, launcher=("-m", "lefusion_scripts.cli"), cwd=tmp_path, name="Mix")
    assert process.returncode == 0, process.stderr
    assert "7 real and 5 synthetic cases for training, 1 for the test in raw/Dataset512_Mix" in process.stdout
    assert "nnUNetv2_train 512 3d_fullres 0" in process.stdout
    folder = tmp_path / "raw" / "Dataset512_Mix"
    assert names(folder) == ["dataset.json", "imagesTr", "imagesTs", "labelsTr", "labelsTs", "splits_final.json"]
    painted = ["a_s1", "a_s1-2", "a_s2", "a_s2-2"]
    cases = [*"abcdefg", "a-2", *painted]
    assert names(folder / "imagesTr") == sorted(f"{case}_0000.nii.gz" for case in cases)
    assert names(folder / "labelsTr") == sorted(f"{case}.nii.gz" for case in cases)
    assert (names(folder / "imagesTs"), names(folder / "labelsTs")) == (["h_0000.nii.gz"], ["h.nii.gz"])
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lesion": 1}
    assert content["channel_names"] == {"0": "CT"}
    assert content["numTraining"] == 12
    np.testing.assert_array_equal(
        stored_of(folder / "imagesTr" / "c_0000.nii.gz"), stored_of(sets / "files/images/c.nii.gz")
    )


def test_validation_is_real_and_never_of_a_patient_that_is_trained_on(sets, tmp_path):
    export_nnunet(str(tmp_path), [f"{sets}/real.json", f"{sets}/painted", f"{sets}/marked"])
    splits = json.loads((tmp_path / "Dataset501_LesionMix" / "splits_final.json").read_text())
    assert len(splits) == 5
    assert sorted(name for split in splits for name in split["val"]) == list("abcdefg")
    (own,) = [split for split in splits if "a" in split["val"]]
    assert "b" in own["val"]  # the same patient
    assert not {"a", "b", "a_s1", "a_s2", "a-2"}.intersection(own["train"])
    for split in splits:
        assert split is own or {"a", "a_s1", "a_s2", "a-2"} <= set(split["train"])
        assert not set(split["train"]).intersection(split["val"])


def test_a_repeated_real_case_is_validated_on_once(sets, tmp_path):
    export_nnunet(str(tmp_path), [f"{sets}/real.json*3"])
    splits = json.loads((tmp_path / "Dataset501_LesionMix" / "splits_final.json").read_text())
    assert sorted(name for split in splits for name in split["val"]) == list("abcdefg")
    for split in splits:
        assert not {name[0] for name in split["train"]} & set(split["val"])


def test_test_patients_that_are_trained_on_are_told(sets, tmp_path, capsys):
    export_nnunet(str(tmp_path), [f"{sets}/painted"], [f"{sets}/real.json"])
    assert "patients are in lists and in test_lists, a for one" in capsys.readouterr().err


def test_labels_become_consecutive_and_anatomy_background(tmp_path, capsys):
    label = np.zeros((6, 6, 4), np.uint8)
    for value in (1, 2, 3, 4):
        label[value] = value
    save_nifti(tmp_path / "in" / "labels" / "h.nii.gz", label, AFFINE)
    save_nifti(
        tmp_path / "in" / "images" / "h.nii.gz", np.arange(144, dtype=np.uint16).reshape(6, 6, 4), AFFINE, (0.5, -7)
    )
    given = {"classes": "pmo=4,mi=3", "modality": "MR", "name": "Heart", "test_lists": str(tmp_path / "in")}
    export_nnunet(str(tmp_path), str(tmp_path / "in"), **given)
    assert "labelsTs PREDICTIONS -l 1 2" in capsys.readouterr().out
    folder = tmp_path / "Dataset501_Heart"
    stored = stored_of(folder / "labelsTr" / "h.nii.gz")
    np.testing.assert_array_equal(stored[:, 0, 0], [0, 0, 0, 1, 2, 0])
    image = nib.load(folder / "imagesTr" / "h_0000.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.get_fdata(), np.arange(144).reshape(6, 6, 4) * 0.5 - 7)
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "mi": 1, "pmo": 2}
    assert content["channel_names"] == {"0": "MR"}
    assert not (folder / "splits_final.json").exists()


def test_existing_set_is_replaced_only_when_asked_and_only_as_a_whole(sets, tmp_path):
    export_nnunet(str(tmp_path), f"{sets}/marked")
    with pytest.raises(InputError, match=r"Dataset501_LesionMix exists; --overwrite true"):
        export_nnunet(str(tmp_path), f"{sets}/marked")
    save_nodules(tmp_path / "bad", "xy", 8)
    (tmp_path / "bad" / "images" / "y.nii.gz").write_bytes(b"no scan")
    with pytest.raises(InputError, match=r"y\.nii\.gz"):
        export_nnunet(str(tmp_path), str(tmp_path / "bad"), overwrite=True)
    assert names(tmp_path / "Dataset501_LesionMix" / "imagesTr") == ["a_0000.nii.gz"]
    export_nnunet(str(tmp_path), f"{sets}/painted", overwrite=True)
    assert names(tmp_path / "Dataset501_LesionMix" / "imagesTr") == ["a_s1_0000.nii.gz", "a_s2_0000.nii.gz"]
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": "lesion"}, "name=label"),
        ({"dataset_id": 0}, "dataset_id"),
        ({"classes": "background=1"}, "background"),
    ],
)
def test_wrong_options_are_told(sets, tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        export_nnunet(str(tmp_path), f"{sets}/marked", **wrong)


def test_voxels_that_are_no_numbers_are_refused(sets, tmp_path):
    values = np.zeros((8, 8, 8), np.float32)
    values[2, 2, 2] = np.nan
    save_nifti(tmp_path / "bad" / "images" / "a.nii.gz", values, np.eye(4))
    save_nifti(tmp_path / "bad" / "labels" / "a.nii.gz", np.ones((8, 8, 8), np.uint8), np.eye(4))
    with pytest.raises(InputError, match="holds 1 NaN"):
        export_nnunet(str(tmp_path / "raw"), str(tmp_path / "bad"))


def test_training_part_without_any_lesion_is_refused(sets, tmp_path):
    with pytest.raises(InputError, match="none of the 2 label maps holds a lesion"):
        export_nnunet(str(tmp_path), f"{sets}/painted", classes="cyst=7")
