"""The command that copies lesions: what it writes, prints and refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from custom_components.errors import InputError
from custom_components.phantoms import short_axis_phantom
from lefusion_scripts import cli
from lefusion_scripts.copy_lesions import copy_lesions

SHAPE, SPACING_MM = (64, 64, 4), (2.2, 2.2, 10.0)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory) -> Path:
    """source.nii.gz with a lesion, target.nii.gz without, on another grid, int16 and with a note in its header."""
    folder = tmp_path_factory.mktemp("hearts")
    source, target = short_axis_phantom(1, SHAPE, SPACING_MM, True), short_axis_phantom(2, (66, 64, 3), SPACING_MM)
    nib.save(nib.Nifti1Image(source.labels, source.affine), folder / "source.nii.gz")
    image = nib.Nifti1Image(target.labels.astype(np.int16), target.affine)
    image.header["descrip"] = b"kept"
    nib.save(image, folder / "target.nii.gz")
    return folder


def pair(hearts: Path) -> tuple[str, str]:
    return str(hearts / "source.nii.gz"), str(hearts / "target.nii.gz")


def test_lesions_are_laid_over_the_target_s_labels_on_its_grid(hearts, tmp_path):
    copy_lesions(*pair(hearts), str(tmp_path / "new" / "out.nii.gz"))
    out, target = nib.load(tmp_path / "new" / "out.nii.gz"), nib.load(hearts / "target.nii.gz")
    values, before = np.asarray(out.dataobj), np.asarray(target.dataobj)
    assert set(np.unique(values)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(values[values < 3], before[values < 3])
    np.testing.assert_array_equal(out.affine, target.affine)
    assert bytes(out.header["descrip"]).startswith(b"kept")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.nii.gz", "out.png"]


def test_volumes_are_printed_in_ml(hearts, tmp_path, capsys):
    copy_lesions(*pair(hearts), str(tmp_path / "out.nii.gz"))
    lines = capsys.readouterr().out.splitlines()
    for line, path in zip(lines[1:3], (hearts / "source.nii.gz", tmp_path / "out.nii.gz"), strict=True):
        values = np.asarray(nib.load(path).dataobj)
        counts = [(values >= 2).sum(), (values == 3).sum(), (values == 4).sum()]
        assert [float(word) for word in line.split()[1:]] == pytest.approx(
            [count * 2.2 * 2.2 * 10 / 1000 for count in counts], abs=0.051
        )


def test_picture_shows_anatomy_and_lesions_of_both_hearts(hearts, tmp_path):
    copy_lesions(*pair(hearts), str(tmp_path / "out.nii.gz"))
    pixels = imread(tmp_path / "out.png")[..., :3]
    halves = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    for colour in ((0.122, 0.467, 0.706), (0.173, 0.627, 0.173), (1, 0.843, 0), (0.839, 0.153, 0.157)):
        for half in halves:
            assert (np.abs(half - colour).max(axis=-1) < 0.01).any(), colour


def test_picture_can_be_left_out(hearts, tmp_path):
    copy_lesions(*pair(hearts), str(tmp_path / "out.nii.gz"), picture="false")
    assert [path.name for path in tmp_path.iterdir()] == ["out.nii.gz"]


def test_command_line_passes_its_options_on(hearts, tmp_path, monkeypatch):
    outputs = []
    for name, options in (("a", []), ("b", ["--rotation_deg", "180"]), ("c", ["--classes", "3,4"])):
        path = tmp_path / f"{name}.nii.gz"
        monkeypatch.setattr(sys, "argv", ["lefusion", "copy_lesions", *pair(hearts), str(path), *options])
        cli.main()
        outputs.append(np.asarray(nib.load(path).dataobj))
    assert not np.array_equal(outputs[0] >= 3, outputs[1] >= 3)
    np.testing.assert_array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("existing", ["out.nii.gz", "out.png"])
def test_existing_output_is_replaced_only_when_asked(hearts, tmp_path, existing):
    (tmp_path / existing).write_text("old")
    with pytest.raises(InputError, match=f"{existing} exists"):
        copy_lesions(*pair(hearts), str(tmp_path / "out.nii.gz"))
    assert (tmp_path / existing).read_text() == "old"
    copy_lesions(*pair(hearts), str(tmp_path / "out.nii.gz"), overwrite="true")
    assert (tmp_path / existing).read_bytes() != b"old"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source_labels": "missing.nii.gz"}, "labels missing.nii.gz is not a NIfTI file"),
        ({"target_labels": "."}, "is not a NIfTI file"),
        ({"output": "out.png"}, "must end in .nii.gz"),
        ({"rotation_deg": "left"}, "rotation_deg must be a number"),
        ({"classes": (3, 400)}, "whole numbers from 1 to 255"),
        ({"classes": 3}, r"labels .*source.nii.gz holds the label 4"),
        ({"cavity": "one"}, "whole numbers from 1 to 255"),
        ({"picture": "perhaps"}, "picture must be true or false"),
    ],
)
def test_bad_arguments_are_told_and_nothing_is_written(hearts, tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    source, target = pair(hearts)
    arguments = {"source_labels": source, "target_labels": target, "output": "out.nii.gz"} | changed
    with pytest.raises(InputError, match=message):
        copy_lesions(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_unsuitable_label_maps_are_named(hearts, tmp_path):
    source, target = pair(hearts)
    output = str(tmp_path / "out.nii.gz")
    with pytest.raises(InputError, match=r"labels .*target\.nii\.gz has no lesion"):
        copy_lesions(target, target, output)
    nib.save(nib.Nifti1Image(np.full((8, 8, 3), 0.5), np.eye(4)), tmp_path / "half.nii.gz")
    with pytest.raises(InputError, match=r"labels .*half\.nii\.gz must hold whole numbers"):
        copy_lesions(source, str(tmp_path / "half.nii.gz"), output)
    assert [path.name for path in tmp_path.iterdir()] == ["half.nii.gz"]
