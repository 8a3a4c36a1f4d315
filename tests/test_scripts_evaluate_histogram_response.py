"""The histogram response of a bundle's sample, painted by a tiny network, and the report of known histograms."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import Output, command, options, stored_of
from control_runs import BUNDLE, PRESETS, quick, read_table
from matplotlib import pyplot as plt
from scipy import ndimage

from custom_components.errors import InputError
from lefusion_scripts.control_sites import open_sites
from lefusion_scripts.evaluate_histogram_response import build_report, evaluate_histogram_response

SITES = 3


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[Path, dict]:
    """The command's folder and report."""
    folder = tmp_path_factory.mktemp("response")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        report = evaluate_histogram_response(str(folder / "out"), sites=SITES, seed=2, **quick(folder))
    return folder / "out", report


def test_every_preset_and_no_control_are_painted_on_the_same_sites_from_the_same_seeds(outcome):
    out, report = outcome
    mask = stored_of(out / "sites.nii.gz") > 0
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == report["sites"] == SITES
    before, seeds = stored_of(BUNDLE / "sample" / "ct.nii.gz"), []
    for texture in (*PRESETS, "none"):
        painted = Output(out / texture, "ct")
        np.testing.assert_array_equal(painted.stored[~mask], before[~mask])
        assert {spec["texture"] for spec in painted.specs} == {texture}
        seeds.append([spec["seed"] for spec in painted.specs])
    assert all(part == seeds[0] for part in seeds)


def test_table_holds_what_was_there_requested_predicted_and_painted(outcome):
    out, _ = outcome
    table = {
        (row["control"], int(row["site"]), row["histogram"]): [float(row[f"bin_{k}"]) for k in range(1, 17)]
        for row in read_table(out / "histograms.csv")
    }
    assert len(table) == SITES * (3 * 4 + 3)
    for control in (*PRESETS, "none"):
        for site, entry in enumerate(Output(out / control, "ct").sidecar["lesions"], start=1):
            assert table[control, site, "achieved"] == pytest.approx(entry["achieved_histogram"], abs=1e-6)
            assert sum(table[control, site, "predicted"]) == pytest.approx(1, abs=1e-4)
            if control != "none":
                assert table[control, site, "requested"] == pytest.approx(entry["spec"]["histogram"], abs=1e-6)
    assert ("none", 1, "requested") not in table
    # Before painting, the mean of the region's bins is that of its voxels, to within a bin.
    for site, entry in enumerate(Output(out / "none", "ct").sidecar["lesions"], start=1):
        centres = -1000 + 87.5 * (np.arange(16) + 0.5)
        assert np.dot(table["solid", site, "before"], centres) == pytest.approx(entry["mean_before"], abs=50)


def test_report_holds_both_fits_and_can_be_read_again(outcome):
    out, report = outcome
    assert json.loads((out / "fit.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["fits"]) == {"control", "none"}
    assert report["fits"]["control"]["observations"] == 3 * SITES * 16
    assert report["fits"]["none"]["s"] == 0
    assert {"p_plus_q", "r", "s", "r_squared", "floor"} <= set(report["fits"]["control"])
    assert set(report["controls"]) == {*PRESETS, "none"}
    assert report["bundle"]["name"] == "lefusion_lidc"
    assert plt.imread(out / "histogram_response.png").std() > 0.05


def test_lesions_that_obey_are_predicted_and_those_that_copy_are_too():
    rng = np.random.default_rng(0)
    before = rng.dirichlet(np.full(16, 3.0), 6)
    requested = {name: np.repeat(rng.dirichlet(np.full(16, 3.0), 1), 6, axis=0) for name in ("dark", "bright")}
    achieved = {**requested, "none": before}
    report, predicted = build_report(before, {**requested, "none": None}, achieved, (-1000, 400), floor=1e-6)
    assert (report["fits"]["control"]["r"], report["fits"]["control"]["s"]) == pytest.approx((0, 1), abs=1e-9)
    assert report["fits"]["none"]["r"] == pytest.approx(1)
    np.testing.assert_allclose(predicted["bright"], requested["bright"])
    row = report["controls"]["none"]
    assert (row["distance_to_before"], row["distance_to_predicted"]) == pytest.approx((0, 0), abs=1e-9)
    assert "distance_to_requested" not in row
    centres = -1000 + 87.5 * (np.arange(16) + 0.5)
    assert report["controls"]["dark"]["mean_achieved"] == pytest.approx(float(requested["dark"][0] @ centres))


def test_sites_take_a_given_scan_its_lungs_and_a_folder_of_masks(tmp_path):
    """The lungs are where the mask says, even where the scan shows more of them."""
    sample = BUNDLE / "sample"
    organ = nib.load(BUNDLE.parent / "diffmask" / "sample" / "organ.nii.gz")
    half = np.asarray(organ.dataobj).copy()
    half[: half.shape[0] // 2] = 0
    nib.save(nib.Nifti1Image(half, organ.affine), tmp_path / "lungs.nii.gz")
    given = {"image": str(sample / "ct.nii.gz"), "lungs": str(tmp_path / "lungs.nii.gz"), "nodules": None}
    given |= {"shapes": str(sample / "nodule_masks"), "sites": 2, "seed": 0, "overwrite": False}
    sites = open_sites(str(tmp_path / "out"), (), "lefusion_lidc", (), {}, **given)
    mask = stored_of(sites.mask) > 0
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 2
    assert not (mask & (half == 0)).any()
    assert (sites.presets, sites.spatial_size, sites.window) == (PRESETS, (64, 64, 32), (-1000, 400))
    with pytest.raises(InputError, match="none of the lesion masks fits into a crop"):
        open_sites(str(tmp_path / "other"), (), "lefusion_lidc", (), {"spatial_size": [8, 8, 8]}, **given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sites": 0}, "sites must be a whole number of at least 1, got 0"),
        ({"floor": 2}, "floor must lie between 0 and 1, got 2"),
        ({"texture": "solid"}, "texture is set by the evaluation itself"),
        ({"num_step": 3}, "no key 'num_step'"),
        ({"image": "nowhere.nii.gz"}, r"nowhere\.nii\.gz does not exist"),
        ({"shapes": "nowhere"}, "nowhere"),
        ({"bundle": "lefusion_emidec"}, "does not paint lung nodules into CT"),
        ({"bundle": "nothing"}, "bundle nothing is neither"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(given, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        evaluate_histogram_response(str(tmp_path / "out"), **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.integration
def test_command_refuses_to_replace_results_with_exit_code_2(outcome):
    out, _ = outcome
    given = ["evaluate_histogram_response", *options(output_dir=out, sites=SITES)]
    refused = command(*given, launcher=("-m", "lefusion_scripts.cli"), cwd=out)
    assert refused.returncode == 2
    assert "exists already: pass --overwrite true" in refused.stderr
    assert "Traceback" not in refused.stderr
