"""Outputs that exist are kept, completed or replaced, and failures leave nothing that is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_runs import (
    Output,
    causes,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
    snapshot,
)
from lung_runs import (
    case_fixture,  # noqa: F401 (a fixture)
    forwards_fixture,  # noqa: F401 (a fixture)
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import balls, chest, save_case

from custom_components.errors import find_input_error
from custom_components.handlers import saver
from custom_components.specs import read_lesions


def test_existing_outputs_are_refused_unless_they_may_be_replaced(paint, case, tmp_path, forwards):
    first = paint(tmp_path, **case, texture="solid", seed=1)
    before = snapshot(tmp_path)
    done = len(forwards)
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path, **case, texture="solid", seed=2)
    assert "case_lefusion.nii.gz exists already" in str(find_input_error(error.value))
    assert len(forwards) == done
    assert snapshot(tmp_path) == before
    old = first.stored
    again = paint(tmp_path, **case, texture="solid", seed=2, overwrite=True)
    assert (again.stored != old).any()
    assert again.sidecar["settings"]["seed"] == 2
    assert again.files() == sorted(before)


def test_resume_paints_only_the_cases_without_a_record(paint, tmp_path, forwards):
    for name in ("a", "b"):
        save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", chest())
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", balls().astype(np.uint8))
    settings = {"dataset_dir": str(tmp_path / "data"), "texture": "solid", "resume": True}
    out = tmp_path / "out"
    paint(out, **settings)
    whole, first = snapshot(out), Output(out, "b").stored
    (out / "b_lefusion.json").unlink()
    (out / "b_mask.nii.gz").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name.startswith("a_")}
    forwards.clear()
    paint(out, **settings)
    assert len(forwards) == 4, "two steps for each of b's two lesions"
    assert sorted(snapshot(out)) == sorted(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert Output(out, "b").stored.tobytes() == first.tobytes()
    assert not list(out.glob(".partial*"))


def test_resume_of_a_finished_run_paints_nothing(paint, case, tmp_path, forwards):
    paint(tmp_path, **case, texture="solid")
    before = snapshot(tmp_path)
    forwards.clear()
    paint(tmp_path, **case, texture="solid", resume=True)
    assert forwards == []
    assert snapshot(tmp_path) == before


def half(path: Path) -> None:
    Path(path).write_bytes(b"half of it")
    raise OSError("no space left")


def test_failing_write_of_the_scan_leaves_no_file(paint, case, tmp_path, monkeypatch):
    monkeypatch.setattr("custom_components.volumes.nib.save", lambda image, path: half(path))
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path / "out", **case, texture="solid")
    assert "no space left" in map(str, causes(error.value))
    assert snapshot(tmp_path / "out") == {}


def test_failing_picture_leaves_no_partial_file_and_a_case_that_resume_completes(paint, case, tmp_path):
    paint(tmp_path, **case, texture="solid", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.panels.save_case_panel", lambda *args, **others: half(args[5]))
        with pytest.raises(RuntimeError) as error:
            paint(tmp_path, **case, texture="solid", seed=2, overwrite=True, panel=True)
    assert "no space left" in map(str, causes(error.value))
    assert Output(tmp_path).files() == ["case_lefusion.nii.gz", "case_mask.nii.gz"], "no record of what is not whole"
    output = paint(tmp_path, **case, texture="solid", seed=2, resume=True)
    assert output.sidecar["settings"]["seed"] == 2
    assert output.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz"]


def test_changed_background_is_never_written(paint, tmp_path, monkeypatch):
    """Should pasting ever touch a voxel outside the masks, the case fails instead of lying about it."""
    files = save_case(tmp_path / "in")
    original = saver.from_crop

    def spilling(*args):
        read_lesions(files["image"], files["mask"])[0].stored[0, 0, 0] += 1
        return original(*args)

    monkeypatch.setattr(saver, "from_crop", spilling)
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path / "out", **files, texture="solid")
    assert any("outside the mask changed" in str(cause) for cause in causes(error.value))
    assert not (tmp_path / "out").exists()
