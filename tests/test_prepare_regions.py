"""`lefusion prepare regions`: healthy lung cut out of whole scans."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import save_nifti, stored_of
from synthetic_chests import affine, chest, lungs, save_chests

from custom_components.errors import InputError
from lefusion_scripts.prepare_regions import prepare_regions

SIZE = (32, 24, 16)


def entries(folder) -> list[dict]:
    return json.loads((folder / "datalist.json").read_text())


def test_regions_are_the_scan_at_1_mm_with_empty_labels_and_the_lung(tmp_path):
    folder = save_chests(tmp_path / "in", "ab")
    assert prepare_regions(str(folder), str(tmp_path / "out"), 5, size=SIZE) == 5
    made = entries(tmp_path / "out")
    assert [entry["patient"] for entry in made] == ["a", "a", "a", "b", "b"]
    hu = nib.load(folder / "a.nii.gz")
    for entry in made[:3]:
        image = nib.load(tmp_path / "out" / entry["image"])
        assert image.shape == SIZE and image.get_data_dtype() == np.int16
        assert np.allclose(np.diag(image.affine), 1)
        assert not stored_of(tmp_path / "out" / entry["label"]).any()
        lung, values = stored_of(tmp_path / "out" / entry["lung"]) > 0, stored_of(tmp_path / "out" / entry["image"])
        assert lung.any() and values[lung].mean() < -700
        site = np.linalg.solve(image.affine, [*entry["site_mm"], 1])[:3]
        assert (site > -0.5).all() and (site < np.array(SIZE) - 0.5).all()
        # A voxel of the region has the value of the place in the scan (halfway between voxels: about).
        place = np.linalg.solve(hu.affine, image.affine @ [10, 10, 8, 1])[:3]
        near = np.asarray(hu.dataobj)[tuple(slice(int(np.floor(p)), int(np.floor(p)) + 2) for p in place)]
        assert near.min() - 1 <= values[10, 10, 8] <= near.max() + 1


def test_no_region_holds_what_is_excluded(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", chest(), affine())
    upper = np.zeros(lungs().shape, np.uint8)
    upper[:, :, 40:] = 1
    path = save_nifti(tmp_path / "marks.nii.gz", upper, affine())
    prepare_regions(str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), 4, size=SIZE, exclude=str(path), patient="P1")
    lowest = (affine() @ [0, 0, 40, 1])[2]
    for entry in entries(tmp_path / "out"):
        top = (nib.load(tmp_path / "out" / entry["image"]).affine @ [0, 0, SIZE[2] - 1, 1])[2]
        assert top < lowest and entry["patient"] == "P1"


def test_no_region_touches_a_marked_voxel_of_thick_slices(tmp_path):
    thick = affine() @ np.diag([1, 1, 4, 1])
    save_nifti(tmp_path / "a.nii.gz", chest()[:, :, ::4], thick)
    marks = np.zeros(lungs()[:, :, ::4].shape, np.uint8)
    marks[:, :, 10:] = 1
    path = save_nifti(tmp_path / "marks.nii.gz", marks, thick)
    prepare_regions(str(tmp_path / "a.nii.gz"), str(tmp_path / "out"), 10, size=(8, 8, 8), exclude=str(path))
    marked = (thick @ [0, 0, 10, 1])[2]
    for entry in entries(tmp_path / "out"):
        top = (nib.load(tmp_path / "out" / entry["image"]).affine @ [0, 0, 7, 1])[2]
        assert marked - top > thick[2, 2] - 1e-6, "the last slice must hold nothing of the marked one"


def test_scans_without_room_or_lung_are_told_and_the_others_are_made(tmp_path, capsys):
    folder = save_chests(tmp_path / "in", "a")
    save_nifti(folder / "noise.nii.gz", np.full((30, 30, 30), 40, np.int16), affine())
    with pytest.raises(SystemExit) as stop:
        prepare_regions(str(folder), str(tmp_path / "out"), 2, size=SIZE)
    assert stop.value.code == 3 and "skipped noise" in capsys.readouterr().out
    assert [entry["patient"] for entry in entries(tmp_path / "out")] == ["a"]


def test_the_same_command_again_changes_nothing_and_another_is_refused(tmp_path):
    folder = save_chests(tmp_path / "in", "a")
    prepare_regions(str(folder), str(tmp_path / "out"), 2, size=SIZE)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").rglob("*.nii.gz")}
    prepare_regions(str(folder), str(tmp_path / "out"), 2, size=SIZE)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    with pytest.raises(InputError, match="was prepared with count 2, now it is 3"):
        prepare_regions(str(folder), str(tmp_path / "out"), 3, size=SIZE)
    marks = save_nifti(tmp_path / "a.nii.gz", np.zeros(lungs().shape, np.uint8), affine())
    with pytest.raises(InputError, match="was prepared with exclude None"):
        prepare_regions(str(folder), str(tmp_path / "out"), 2, size=SIZE, exclude=str(marks))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": 0}, "count must be"),
        ({"size": (64, 64)}, "size must be three"),
        ({"exclude": "nowhere"}, "exclude nowhere does not exist"),
        ({"source": "nowhere"}, "input nowhere does not exist"),
    ],
)
def test_wrong_options_are_told(changed, words, tmp_path):
    given = {"source": str(save_chests(tmp_path / "in", "a")), "output_dir": str(tmp_path / "out"), "count": 1}
    with pytest.raises(InputError, match=words):
        prepare_regions(**{**given, **changed})
    assert not (tmp_path / "out").exists()
