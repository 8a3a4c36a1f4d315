"""The demo of a bundle with several lesion classes, on its sample and with a tiny network; how the sample is made."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, TINY_NETWORK, Output, save_weights_of, stored_of

from custom_components.errors import InputError
from lefusion_scripts.build_phantom_case import build_phantom_case
from lefusion_scripts.demo import demo

BUNDLE = BUNDLES / "lefusion_emidec"
SAMPLE = BUNDLE / "sample"
MI, PMO = 3, 4
TEXTURES = ["weak", "intermediate", "strong"]


@pytest.fixture
def tiny_bundle(tmp_path) -> Path:
    """A copy of the bundle whose network is tiny and takes one step."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("models", "outputs", "custom_components"))
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config.update(num_inference_steps=1, device="cpu", panel=False, progress=False)
    config["network_def"].update(TINY_NETWORK)
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    (bundle / "models").mkdir()
    save_weights_of(bundle, bundle / "models" / "model.pt")
    return bundle


def test_demo_paints_every_texture_of_the_first_class_and_tells_of_all_classes(
    tiny_bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    out = tmp_path / "out"
    demo(str(out), str(tiny_bundle), seed=3)
    assert sorted(path.name for path in out.iterdir()) == sorted([*TEXTURES, "textures.png"])
    before, label = stored_of(SAMPLE / "phantom_mr.nii.gz"), stored_of(SAMPLE / "phantom_labels.nii.gz")
    outputs = {texture: Output(out / texture, "phantom") for texture in TEXTURES}
    for texture, output in outputs.items():
        mi, pmo = output.specs
        assert (mi["lesion_class"], mi["texture"]) == ("mi", texture)
        assert pmo["lesion_class"] == "pmo" and pmo["texture"] in ("dark", "grey")
        lesion = np.isin(label, (MI, PMO))
        assert np.array_equal(output.stored[~lesion], before[~lesion])
        for value in (MI, PMO):
            assert (output.stored[label == value] != before[label == value]).mean() > 0.8
    picture = matplotlib.image.imread(out / "textures.png")
    assert picture.ndim == 3 and picture.std() > 0.01

    printed = capsys.readouterr().out
    assert [f"painting {texture} lesions" in printed for texture in TEXTURES] == [True] * 3
    lines = printed.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("lesion"))
    assert lines[head].split()[:6] == ["lesion", "size", "before", *TEXTURES]
    assert lines[head].endswith("(mean, units of the scan)")
    volume_ml = np.abs(np.linalg.det(nib.load(SAMPLE / "phantom_mr.nii.gz").affine)) / 1000
    for row, (name, value) in zip(lines[head + 1 : head + 3], {"mi": MI, "pmo": PMO}.items(), strict=True):
        number, of_class, size, unit, *means = row.split()
        assert (number, of_class, unit) == ("1", name, "ml")
        inside = label == value
        assert float(size) == pytest.approx(inside.sum() * volume_ml, abs=0.051)
        expected = [before[inside].mean(), *(outputs[texture].stored[inside].mean() for texture in TEXTURES)]
        assert [float(mean) for mean in means] == pytest.approx(expected, abs=0.51)


def test_sample_is_built_bit_for_bit(tmp_path):
    build_phantom_case(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in SAMPLE.iterdir())
    assert (tmp_path / "datalist.json").read_bytes() == (SAMPLE / "datalist.json").read_bytes()
    for name, kind in (("phantom_mr.nii.gz", np.int16), ("phantom_labels.nii.gz", np.uint8)):
        built, shipped = nib.load(tmp_path / name), nib.load(SAMPLE / name)
        assert built.get_data_dtype() == shipped.get_data_dtype() == kind
        np.testing.assert_array_equal(built.affine, shipped.affine)
        np.testing.assert_array_equal(stored_of(tmp_path / name), stored_of(SAMPLE / name))
    assert set(np.unique(stored_of(SAMPLE / "phantom_labels.nii.gz"))) == {0, 1, 2, MI, PMO}


def test_existing_sample_is_kept_unless_overwritten(tmp_path):
    (tmp_path / "datalist.json").write_text("mine")
    small = {"shape": (64, 64, 3), "spacing_mm": (2.2, 2.2, 10.0)}
    for refusal in (False, "false"):  # the command line passes the word on
        with pytest.raises(InputError, match=r"datalist\.json exists already: pass --overwrite true"):
            build_phantom_case(str(tmp_path), **small, overwrite=refusal)
    assert [path.name for path in tmp_path.iterdir()] == ["datalist.json"]
    build_phantom_case(str(tmp_path), **small, overwrite="true")
    assert json.loads((tmp_path / "datalist.json").read_text())[0]["case"] == "phantom"
