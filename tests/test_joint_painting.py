"""Two lesion classes painted jointly into stacks of thick slices, from the files to the files, with a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import save_nifti
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from thick_stacks import LABELS, STORED_WAYS, TILTS, affine_of, ring, signal, stored_as

from custom_components.conditioners import HistogramConditioner
from custom_components.engines import LesionSamplingPrepareBatch
from custom_components.handlers import LesionSaver
from custom_components.inferers import LesionInpaintingInferer
from custom_components.networks import HistogramUNet
from custom_components.planning import plan_lesions
from custom_components.schedules import NoiseSchedule
from custom_components.transforms import LesionCropd, ScaleToWindowd
from custom_components.windows import PercentileWindow

SIZE = (24, 24, 6)
GRAY = signal(ring(), bright=150)  # whole numbers within 0 and 255
STORED = {
    "uint8": (GRAY.astype(np.uint8), (1.0, 0.0)),
    "uint8 with slope and intercept": ((GRAY // 2).astype(np.uint8), (2.0, -30.0)),
    "int16": ((16 * GRAY).astype(np.int16), (1.0, 0.0)),
    "int16 with slope and intercept": ((8 * GRAY - 900).astype(np.int16), (0.25, 1000.0)),
    "float64": (GRAY + 1 / 3, (1.0, 0.0)),
    "float64 with slope and intercept": (GRAY / 3, (1.7, -11.5)),
}
PRESETS = {name: np.eye(16)[number].tolist() for name, number in (("dark", 3), ("gray", 8), ("bright", 13))}


def tiny_network(context: str = "clean") -> HistogramUNet:
    """None of its weights is zero, so that the whole network takes part."""
    torch.manual_seed(0)
    network = HistogramUNet(
        in_channels=3 if context == "clean" else 2,
        out_channels=2,
        state_channels=1 if context == "clean" else 2,
        channels=(8, 8),
        norm_num_groups=4,
        num_head_channels=4,
        in_plane=True,
        context_dim=8,
        fine_channels=4,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


def save_case(folder: Path, kind: str = "uint8", label=None, tilt: str = "oblique", way=STORED_WAYS[29], header=None):
    """A case whose volumes lie obliquely and are stored with permuted and flipped axes."""
    volume, scaling = STORED[kind]
    stored, affine = stored_as(volume, affine_of(TILTS[tilt]), way)
    labels, _ = stored_as(ring() if label is None else label, affine_of(TILTS[tilt]), way)
    return {
        "case": "heart",
        "image": str(save_nifti(folder / "heart.nii.gz", stored, affine, scaling, header)),
        "label": str(save_nifti(folder / "label.nii.gz", labels, affine)),
    }


def paint(
    case: dict, folder: Path, context: str = "clean", batch_size: int = 1, panel: bool = False, **settings
) -> Path:
    """What the inference bundle does with one case; returns the folder of its files."""
    cases = case if isinstance(case, list) else [case]
    conditioner = HistogramConditioner(PRESETS)
    layout = {"spatial_size": SIZE, "spacing_mm": None, "labels": LABELS}
    lesions = plan_lesions(cases, conditioner, window=PercentileWindow(1, 99), **layout, **settings)
    saver = LesionSaver(lesions, folder, labels=LABELS, panel=panel, progress=False)
    dataset = Dataset(saver.pending(), lambda item: ScaleToWindowd()(LesionCropd(**layout)(item)))
    inferer = LesionInpaintingInferer(
        NoiseSchedule(300), num_classes=2, context=context, num_inference_steps=2, texture_guidance=1.0
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=batch_size),
        network=tiny_network(context),
        prepare_batch=LesionSamplingPrepareBatch(),
        inferer=inferer,
        decollate=False,
        val_handlers=[saver],
    )
    evaluator.run()
    return folder


def unscaled(path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj.get_unscaled())


def sidecar(folder: Path) -> dict:
    return json.loads((folder / "heart_lefusion.json").read_text())


# ----------------------------------------------------------------------------------------- the scan


@pytest.mark.parametrize("kind", STORED)
def test_every_voxel_outside_both_masks_stays_bit_for_bit_and_both_classes_are_painted(tmp_path, kind):
    case = save_case(tmp_path, kind)
    paint(case, tmp_path / "out", texture="dark")
    before, after = unscaled(case["image"]), unscaled(tmp_path / "out" / "heart_lefusion.nii.gz")
    label = unscaled(case["label"])
    assert after.dtype == before.dtype
    assert after[label < 3].tobytes() == before[label < 3].tobytes()
    for value in (3, 4):
        assert (after[label == value] != before[label == value]).mean() > 0.8


@pytest.mark.parametrize("kind", STORED)
def test_painted_values_lie_within_the_scan_s_own_window(tmp_path, kind):
    case = save_case(tmp_path, kind)
    paint(case, tmp_path / "out")
    label = unscaled(case["label"])
    values = nib.load(tmp_path / "out" / "heart_lefusion.nii.gz").get_fdata()
    outside = nib.load(case["image"]).get_fdata()[label < 3]
    low, high = np.percentile(outside, (0.5, 99.5))
    assert values[label >= 3].min() >= low and values[label >= 3].max() <= high


def test_classes_are_painted_by_their_own_requests(tmp_path):
    case = save_case(tmp_path)
    means = {}
    for scar, core in (("bright", "dark"), ("dark", "bright")):
        entries = sidecar(paint(case, tmp_path / scar, texture={"scar": scar, "core": core}))["lesions"]
        means[scar] = {entry["spec"]["lesion_class"]: entry["mean_painted"] for entry in entries}
    assert means["bright"]["scar"] > means["dark"]["scar"] + 30
    assert means["dark"]["core"] > means["bright"]["core"] + 30


def test_header_affine_and_scaling_are_the_scan_s_own(tmp_path):
    header = nib.Nifti1Header()
    header["aux_file"] = b"stack"
    header["cal_max"] = 300
    header.set_xyzt_units("mm", "sec")
    header["qform_code"], header["sform_code"] = 1, 1
    case = save_case(tmp_path, "int16 with slope and intercept", header=header)
    paint(case, tmp_path / "out")
    before, after = nib.load(case["image"]), nib.load(tmp_path / "out" / "heart_lefusion.nii.gz")
    changed = {name for name in before.header if before.header[name].tobytes() != after.header[name].tobytes()}
    assert changed <= {"descrip"}
    assert after.affine.tobytes() == before.affine.tobytes()
    assert (after.dataobj.slope, after.dataobj.inter) == (0.25, 1000.0)
    assert after.header["descrip"].item().startswith(b"SYNTHETIC")


@pytest.mark.parametrize("tilt", ["straight", "short axis"])
def test_a_lesion_is_painted_alike_however_the_stack_is_stored(tmp_path, tilt):
    painted = []
    for number, way in enumerate((STORED_WAYS[0], STORED_WAYS[22], STORED_WAYS[41])):
        case = save_case(tmp_path / str(number), tilt=tilt, way=way)
        paint(case, tmp_path / str(number) / "out", texture="gray", seed=3)
        after = nib.load(tmp_path / str(number) / "out" / "heart_lefusion.nii.gz")
        places, _ = stored_as(np.arange(GRAY.size).reshape(GRAY.shape), affine_of(TILTS[tilt]), way)
        back = np.empty(GRAY.size)
        back[places.ravel()] = np.asarray(after.dataobj).ravel()
        painted.append(back)
    for other in painted[1:]:
        np.testing.assert_array_equal(other, painted[0])


def test_diffused_context_keeps_the_background_too(tmp_path):
    case = save_case(tmp_path)
    paint(case, tmp_path / "out", context="diffused")
    before, after = unscaled(case["image"]), unscaled(tmp_path / "out" / "heart_lefusion.nii.gz")
    label = unscaled(case["label"])
    np.testing.assert_array_equal(after[label < 3], before[label < 3])
    assert (after[label >= 3] != before[label >= 3]).mean() > 0.8


# ----------------------------------------------------------------------------------------- the other files


def test_label_map_keeps_the_classes_values_and_leaves_the_anatomy_out(tmp_path):
    case = save_case(tmp_path)
    paint(case, tmp_path / "out")
    label, written = unscaled(case["label"]), nib.load(tmp_path / "out" / "heart_mask.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.where(label >= 3, label, 0))
    np.testing.assert_allclose(written.affine, nib.load(case["image"]).affine)


def test_label_map_of_a_scaled_scan_is_not_scaled(tmp_path):
    case = save_case(tmp_path, "uint8 with slope and intercept")
    paint(case, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "heart_mask.nii.gz").get_fdata()
    assert set(np.unique(written)) == {0, 3, 4}


def test_sidecar_tells_of_each_class_what_was_asked_for_and_what_became_of_it(tmp_path):
    case = save_case(tmp_path, "int16 with slope and intercept")
    paint(case, tmp_path / "out", texture={"scar": "bright", "core": "none"})
    content = sidecar(tmp_path / "out")
    scar, core = content["lesions"]
    assert [entry["spec"]["lesion_class"] for entry in (scar, core)] == ["scar", "core"]
    assert [entry["spec"]["texture"] for entry in (scar, core)] == ["bright", "none"]
    assert core["histogram_distance"] is None and scar["histogram_distance"] < 0.5
    label = unscaled(case["label"])
    before = nib.load(case["image"]).get_fdata()
    after = nib.load(tmp_path / "out" / "heart_lefusion.nii.gz").get_fdata()
    for entry, value in ((scar, 3), (core, 4)):
        inside = label == value
        assert entry["spec"]["voxels"] == inside.sum()
        assert entry["mean_before"] == pytest.approx(before[inside].mean(), abs=0.01)
        assert entry["mean_painted"] == pytest.approx(after[inside].mean(), abs=0.01)
        assert entry["std_painted"] == pytest.approx(after[inside].std(), abs=0.01)
        low, high = entry["spec"]["window"]
        scaled = (after[inside] - low) / (high - low) * 2 - 1
        counts = np.histogram(scaled, bins=16, range=(-1, 1))[0] / inside.sum()
        centres = (np.arange(16) + 0.5) / 8 - 1
        assert centres @ counts == pytest.approx(centres @ entry["achieved_histogram"], abs=0.02)
    assert content["max_abs_difference_outside_mask"] == 0
    assert content["synthetic"] is True


def test_lesion_of_one_class_has_one_entry(tmp_path):
    case = save_case(tmp_path, label=ring(core=False))
    paint(case, tmp_path / "out", panel=True)
    (entry,) = sidecar(tmp_path / "out")["lesions"]
    assert entry["spec"]["lesion_class"] == "scar"
    assert set(np.unique(unscaled(tmp_path / "out" / "heart_mask.nii.gz"))) == {0, 3}
    assert matplotlib.image.imread(tmp_path / "out" / "heart_panel.png").std() > 0.05


def test_replayed_sidecar_gives_the_same_bytes(tmp_path):
    case = save_case(tmp_path)
    first = paint(case, tmp_path / "first", texture={"scar": "gray", "core": "random"}, seed=8)
    again = paint(case, tmp_path / "again", replay=first / "heart_lefusion.json", seed=1)
    assert (first / "heart_lefusion.nii.gz").read_bytes() == (again / "heart_lefusion.nii.gz").read_bytes()
    assert sidecar(first)["lesions"] == sidecar(again)["lesions"]


def test_cases_do_not_depend_on_what_shares_their_batch(tmp_path):
    case = save_case(tmp_path / "a")
    other = {**save_case(tmp_path / "b", label=ring(core=False)), "case": "other"}
    alone = paint(case, tmp_path / "alone")
    together = paint([other, case], tmp_path / "together", batch_size=2)
    same = unscaled(alone / "heart_lefusion.nii.gz") - unscaled(together / "heart_lefusion.nii.gz").astype(int)
    assert np.abs(same).max() <= 1
    assert (together / "other_lefusion.json").is_file()
