"""Whole generated crops in place of single lesions: who may, what they change, and what the records say of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    BUNDLES,
    RAS,
    TINY_NETWORK,
    Output,
    causes,
    infer,
    options,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
    save_weights_of,
    stored_of,
)
from damaged_sets import edit, findings, put, rehash, rewrite
from small_chest import balls, chest
from synthesis_runs import Made, make, start
from thick_stacks import STORED_WAYS, affine_of, ring, signal, stored_as

from custom_components.backgrounds import check_paste, covered_by_crop, largest_difference
from custom_components.errors import InputError
from custom_components.synthesis.records import read_manifest, read_run
from custom_components.synthesis.verification import check_replay
from custom_components.volumes import read_scan
from lefusion_scripts.verify import verify

LUNG, HEART = "lefusion_lidc", "lefusion_emidec"
TINY = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
QUICK = {**TINY, "num_inference_steps": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def generators(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Overrides of both bundles for a tiny Cond-Diffusion."""
    folder = tmp_path_factory.mktemp("weights")
    sizes = {LUNG: [16, 16, 16], HEART: [24, 24, 6]}
    return {
        name: {
            **QUICK,
            "spatial_size": size,
            "weights": str(save_weights_of(BUNDLES / name, folder / f"{name}.pt", "cond_diffusion")),
        }
        for name, size in sizes.items()
    }


def generate(bundle: str, overlay: str, files: dict[str, str], output_dir: Path, **overrides: Any) -> Output:
    configs = [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in ("inference", overlay)]
    common = {"bundle_root": str(BUNDLES / bundle), "panel": False, "progress": False, "output_dir": str(output_dir)}
    infer(configs, **common, **files, **overrides)
    return Output(output_dir)


# ------------------------------------------------------------------------------------- which voxels, how much


def test_crop_covers_the_voxels_whose_centres_lie_in_it():
    scan, crop = np.diag([2.0, 2.0, 4.0, 1.0]), np.diag([1.0, 1.0, 1.0, 1.0])
    crop[:3, 3] = (5, 3, 8)
    box, inside = covered_by_crop(crop, (6, 7, 8), scan, (20, 20, 20))
    found = np.zeros((20, 20, 20), bool)
    found[box] = inside
    x, y, z = (np.arange(20) * step for step in (2, 2, 4))
    wanted = np.ix_(*[(v >= low - 0.5) & (v < low + n - 0.5) for v, low, n in ((x, 5, 6), (y, 3, 7), (z, 8, 8))])
    expected = np.zeros_like(found)
    expected[wanted] = True
    assert expected.sum() == 3 * 3 * 2 and np.array_equal(found, expected)


def test_crop_that_reaches_beyond_the_scan_covers_what_is_there():
    crop = np.eye(4)
    crop[:3, 3] = -3
    box, inside = covered_by_crop(crop, (8, 8, 8), np.eye(4), (10, 10, 10))
    assert inside.sum() == 5**3 and all(part.start == 0 for part in box)


def test_largest_difference_is_in_the_scan_s_units_and_outside_lesions_alone(tmp_path):
    stored = chest((6, 6, 6))
    scan = read_scan(save_nifti(tmp_path / "a.nii.gz", stored, RAS, scaling=(0.5, 10)))
    changed, instances = stored.copy(), np.zeros(stored.shape, np.uint8)
    instances[3, 3, 3] = 1
    changed[3, 3, 3] += 100
    assert largest_difference(changed, scan, instances) == 0
    changed[1, 1, 1] -= 8
    changed[1, 1, 2] += 3
    assert largest_difference(changed, scan, instances) == 4


@pytest.mark.parametrize(
    ("paste", "background", "message"),
    [
        ("crop", "scan", "paste must be lesion: this config"),
        ("all", "generated", "paste must be lesion or crop, got 'all'"),
        ("lesion", "mine", "background must be scan or generated, got 'mine'"),
    ],
)
def test_what_may_be_pasted_is_checked(paste, background, message):
    with pytest.raises(InputError, match=message):
        check_paste(paste, background)
    for fine in (("lesion", "scan"), ("lesion", "generated"), ("crop", "generated")):
        check_paste(*fine)


# ----------------------------------------------------------------------------------------------- inference

AFFINE = np.diag([-1.25, -1.25, 1.0, 1.0])  # stored towards the left and the back, finer than it is painted


def save_two(folder: Path, value: int = 1) -> dict[str, str]:
    """A chest with two lesions whose crops overlap."""
    mask = balls((40, 32, 32), [((14, 14, 16), 3), ((22, 16, 17), 3)], (1.25, 1.25, 1)).astype(np.uint8)
    mask *= value
    image = save_nifti(folder / "case.nii.gz", chest((40, 32, 32)), AFFINE)
    return {"image": str(image), "mask": str(save_nifti(folder / "mask.nii.gz", mask, AFFINE))}


def test_lesion_is_pasted_alone_unless_the_crop_is_asked_for(generators, tmp_path):
    files = save_two(tmp_path)
    before, lesion = stored_of(files["image"]), stored_of(files["mask"]) > 0
    alone = generate(LUNG, "cond_diffusion", files, tmp_path / "lesion", **generators[LUNG])
    assert np.array_equal(alone.stored[~lesion], before[~lesion])
    assert (alone.sidecar["background"], alone.sidecar["max_abs_difference_outside_mask"]) == ("scan", 0)
    whole = generate(LUNG, "cond_diffusion", files, tmp_path / "crop", paste="crop", **generators[LUNG])
    assert np.array_equal(whole.stored[lesion], alone.stored[lesion]), "a crop does not lie over another's lesion"
    covered = np.zeros(before.shape, bool)
    for entry in whole.sidecar["lesions"]:
        place = np.linalg.solve(entry["crop_affine"], AFFINE)
        index = np.einsum("ij,jxyz->ixyz", place[:3, :3], np.indices(before.shape)) + place[:3, 3].reshape(3, 1, 1, 1)
        covered |= ((index >= -0.5) & (index < 15.5)).all(axis=0)
    assert np.array_equal(whole.stored[~covered], before[~covered])
    assert (whole.stored != before)[covered].mean() > 0.95
    difference = np.abs(whole.stored.astype(float) - before)[~lesion].max()
    assert whole.sidecar["background"] == "generated"
    assert whole.sidecar["max_abs_difference_outside_mask"] == pytest.approx(difference) and difference > 100
    assert whole.sidecar["settings"]["paste"] == "crop"
    assert whole.stored.dtype == before.dtype and np.array_equal(whole.image.affine, nib.load(files["image"]).affine)


@pytest.mark.parametrize("overlay", ["repaint", "no_histogram", "hand_crafted_texture", "diffused"])
@pytest.mark.parametrize("bundle", [LUNG, HEART])
def test_methods_that_keep_the_background_cannot_paste_crops(bundle, overlay, tmp_path):
    files = save_two(tmp_path, value=1 if bundle == LUNG else 3)
    tiny = {} if overlay == "hand_crafted_texture" else {**QUICK, "spatial_size": [16, 16, 16]}
    if tiny:
        tiny["weights"] = str(save_weights_of(BUNDLES / bundle, tmp_path / "tiny.pt", overlay))
    with pytest.raises(Exception) as error:
        generate(bundle, overlay, files, tmp_path / "out", paste="crop", **tiny)
    assert any("paste must be lesion" in str(cause) for cause in causes(error.value))
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------- sets


def save_data(bundle: str, folder: Path) -> Path:
    if bundle == LUNG:
        files = save_two(folder / "case")
        volumes = [(stored_of(files[role]), AFFINE) for role in ("image", "mask")]
    else:
        way = STORED_WAYS[29]
        volumes = [stored_as(v, affine_of(), way) for v in (signal(ring()).astype(np.uint8), ring())]
    for role, volume in zip(("images", "labels"), volumes, strict=True):
        save_nifti(folder / "data" / role / "a.nii.gz", *volume)
    return folder / "data"


@pytest.fixture(scope="module", params=[LUNG, HEART])
def compared(request, generators, tmp_path_factory) -> tuple[Path, Path]:
    """A set whose crops are pasted whole, and its source."""
    folder = tmp_path_factory.mktemp("compared")
    data, overrides = save_data(request.param, folder), {**generators[request.param], "paste": "crop"}
    given = {"bundle": request.param, "config": "cond_diffusion", "set": "P'", "panel": False}
    assert make(data, folder / "set", overrides, **given) == []
    return folder / "set", data


@pytest.fixture
def copied(compared, tmp_path) -> Path:
    shutil.copytree(compared[0], tmp_path / "set")
    return tmp_path / "set"


def test_records_of_a_set_tell_that_its_background_is_generated(compared):
    root, data = compared
    image, label = (Made(root, "a").stored(role) for role in ("images", "labels"))
    before = stored_of(data / "images" / "a.nii.gz").astype(float)
    sidecar = Made(root, "a").sidecar
    assert sidecar["background"] == "generated" == read_run(root)["background"]
    assert [record["background"] for record in read_manifest(root)] == ["generated"]
    assert sidecar["max_abs_difference_outside_mask"] == np.abs(image - before)[label == 0].max() > 0
    assert findings(root) == []


def test_verify_and_replay_accept_the_set_and_say_what_it_is(compared, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        verify(str(compared[0]), progress=False)
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "the background of 1 case is generated" in output and "all as recorded" in output
    assert check_replay(compared[0], "a", tmp_path / "again") == []


def test_change_outside_the_crops_is_found(copied):
    image, shape = copied / "images" / "a.nii.gz", Made(copied, "a").stored("images").shape
    corner = tuple(size - 1 for size in shape) if shape == (40, 32, 32) else (0, 0, 0)
    told = Made(copied, "a").sidecar["max_abs_difference_outside_mask"]
    rewrite(image, put(corner, int(Made(copied, "a").stored("images")[corner]) + 1))
    rehash(copied)
    assert told >= 1
    assert ("images/a.nii.gz", "differs from its source in 1 voxel outside the lesions and their generated crops.") in (
        findings(copied)
    )


def test_other_amount_of_change_than_told_is_found(copied):
    edit(copied / "sidecars" / "a.json", lambda sidecar: sidecar.update(max_abs_difference_outside_mask=1))
    ((file, sentence),) = findings(copied)
    assert file == "images/a.nii.gz" and sentence.endswith("outside the lesions, the sidecar tells of 1.")


def test_claim_that_the_background_is_the_scan_s_is_found_out(copied):
    edit(copied / "sidecars" / "a.json", lambda sidecar: sidecar.update(background="scan"))
    sentences = " ".join(sentence for _, sentence in findings(copied))
    assert "disagrees with the manifest about background" in sentences
    assert "does not say that voxels outside the mask are unchanged" in sentences
    assert "voxels outside the lesions." in sentences


def test_unknown_background_is_found(copied):
    edit(copied / "sidecars" / "a.json", lambda sidecar: sidecar.update(background="painted"))
    assert any("tells of a background 'painted'" in sentence for _, sentence in findings(copied))


def test_set_of_a_method_that_keeps_the_background_is_refused_before_any_work(tmp_path):
    data = save_data(LUNG, tmp_path)
    with pytest.raises(InputError, match="paste must be lesion"):
        make(data, tmp_path / "set", {"paste": "crop"}, set="P'", config="hand_crafted_texture")
    assert not (tmp_path / "set").exists()


@pytest.mark.integration
def test_method_is_trained_and_makes_a_set_of_whole_crops_by_commands(tmp_path):
    """As a person types them: train, then paint whole crops."""
    data = save_data(LUNG, tmp_path)
    shutil.copytree(data, tmp_path / "two")
    for role in ("images", "labels"):
        shutil.copy(data / role / "a.nii.gz", tmp_path / "two" / role / "b.nii.gz")
    tiny = {**TINY, "spatial_size": [16, 16, 16]}
    settings = {"max_epochs": 1, "repeats": 1, "val_repeats": 1, "val_fraction": 0.5, "picture_interval": 0}
    words = options(config="[train_cpu,cond_diffusion]", dataset_dir=tmp_path / "two", output_dir=tmp_path / "run")
    process = start(["run", "training", *words, *options(**settings, **tiny)])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    given = {"input": data, "output": tmp_path / "set", "set": "P'", "config": "cond_diffusion", "paste": "crop"}
    weights = tmp_path / "run" / "checkpoints" / "model.pt"
    process = start(["synthesize", *options(**given, weights=weights, num_inference_steps=1, **tiny)])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert Made(tmp_path / "set", "a").sidecar["background"] == "generated"
    assert findings(tmp_path / "set") == []
