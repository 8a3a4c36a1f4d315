"""The data set of phantoms: layout, names, and what it does not overwrite."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_components.errors import InputError
from lefusion_scripts.write_phantoms import write_phantoms

SMALL = {"shape": (64, 64, 3), "spacing_mm": (2.2, 2.2, 10.0)}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_images_and_labels_lie_in_two_folders_under_the_same_names(tmp_path, capsys):
    write_phantoms(str(tmp_path / "out"), pathological=2, normal=1, **SMALL)
    names = [
        "Normal/{}/phantom_N001.nii.gz",
        "Pathological/{}/phantom_P001.nii.gz",
        "Pathological/{}/phantom_P002.nii.gz",
    ]
    expected = [name.format(kind) for name in names for kind in ("images", "labels")]
    assert files(tmp_path / "out") == sorted([*expected, "phantoms.json"])
    assert "2 pathological and 1 normal phantoms" in capsys.readouterr().out
    for name, labels in zip(names, ({0, 1, 2}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}), strict=True):
        image, label = (nib.load(tmp_path / "out" / name.format(kind)) for kind in ("images", "labels"))
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        assert set(np.unique(label.dataobj)) == labels
        np.testing.assert_array_equal(image.affine, label.affine)
        assert image.header.get_zooms() == pytest.approx(SMALL["spacing_mm"])
        assert image.header.get_xyzt_units()[0] == "mm"
        for volume in (image, label):
            assert bytes(volume.header["descrip"]).startswith(b"PHANTOM")


def test_record_says_that_it_is_a_phantom_and_lists_the_seeds(tmp_path):
    write_phantoms(str(tmp_path), pathological=1, normal=1, seed=5, **SMALL)
    record = json.loads((tmp_path / "phantoms.json").read_text())
    assert record["phantom"] is True and record["seed"] == 5
    assert [case["name"] for case in record["cases"]] == ["phantom_P001", "phantom_N001"]
    assert len({case["seed"] for case in record["cases"]}) == 2


def test_a_heart_does_not_depend_on_how_many_there_are(tmp_path):
    write_phantoms(str(tmp_path / "a"), pathological=1, normal=1, **SMALL)
    write_phantoms(str(tmp_path / "b"), pathological=0, normal=2, **SMALL)
    one, two = (nib.load(tmp_path / part / "Normal/images/phantom_N001.nii.gz").get_fdata() for part in "ab")
    np.testing.assert_array_equal(one, two)


def test_filled_folder_is_left_alone_without_overwrite(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_phantoms(str(tmp_path), **SMALL)
    assert files(tmp_path) == ["notes.txt"]


def test_overwrite_replaces_phantoms_and_nothing_else(tmp_path):
    write_phantoms(str(tmp_path), pathological=1, normal=1, **SMALL)
    (tmp_path / "Normal" / "labels" / "mine.nii.gz").write_text("mine")
    write_phantoms(str(tmp_path), pathological=0, normal=1, overwrite="true", **SMALL)
    expected = ["images/phantom_N001.nii.gz", "labels/mine.nii.gz", "labels/phantom_N001.nii.gz"]
    assert files(tmp_path) == [*(f"Normal/{name}" for name in expected), "phantoms.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pathological": -1}, "pathological must be a whole number"),
        ({"normal": 1.5}, "normal must be a whole number"),
        ({"pathological": 0, "normal": 0}, "nothing to write"),
        ({"overwrite": "maybe"}, "overwrite must be true or false"),
        ({"shape": (32, 32, 3), "overwrite": True}, "shape"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(tmp_path, arguments, message):
    kept = tmp_path / "Normal" / "images" / "phantom_N001.nii.gz"
    kept.parent.mkdir(parents=True)
    kept.write_text("old")
    with pytest.raises(InputError, match=message):
        write_phantoms(str(tmp_path), **SMALL | arguments)
    assert files(tmp_path) == ["Normal/images/phantom_N001.nii.gz"] and kept.read_text() == "old"
