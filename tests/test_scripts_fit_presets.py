"""Texture presets from training histograms, on lesions whose histograms are known."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from custom_components.conditioners import HistogramConditioner
from custom_components.datasets import split_by_patient
from custom_components.errors import InputError
from lefusion_scripts.fit_presets import fit_presets

NAMES = ("ground_glass", "part_solid", "solid")
PATIENTS = [f"patient_{number:02d}" for number in range(16)]
LOW_BIN = {1: 2, 3: 6, 5: 10}  # by texture score: the lesion's voxels lie in this bin and the next one
HELD_OUT_BIN = 14


def hu_of(number: int) -> int:
    """The HU in the middle of a bin, for 16 bins over -1000 to 400."""
    return round(-1000 + (number + 0.5) * 1400 / 16)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of one lesion a patient, its cases, and the held-out patients, with lesions unlike the rest."""
    root = tmp_path_factory.mktemp("lesions")
    held_out = {case["patient"] for case in split_by_patient([{"patient": p} for p in PATIENTS], 0.25, "validation")}
    cases, count = [], 0
    for patient in PATIENTS:
        score = (1, 3, 5)[count % 3]
        low_slabs = 2 + count // 3 % 3
        low = HELD_OUT_BIN if patient in held_out else LOW_BIN[score]
        image = np.full((12, 12, 12), 1000, dtype=np.int16)  # outside the mask: must not count
        image[3:9, 3:9, 3:9] = hu_of(low + 1)
        image[3 : 3 + low_slabs, 3:9, 3:9] = hu_of(low)
        mask = np.zeros((12, 12, 12), dtype=np.uint8)
        mask[3:9, 3:9, 3:9] = 1
        case = {"patient": patient, "texture": score}
        for key, array in (("image", image), ("label", mask)):
            case[key] = f"{key}_{patient}.nii.gz"
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.0, 1.0])), root / case[key])
        cases.append({**case, "low_slabs": low_slabs})
        count += patient not in held_out
    (root / "datalist.json").write_text(json.dumps(cases))
    return root, cases, held_out


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("presets") / "presets.json"
    report = fit_presets(str(data[0]), str(output), val_fraction=0.25)
    return report, output


def test_presets_are_the_mean_histograms_of_the_textures_ordered_by_intensity(data, fitted):
    _, cases, held_out = data
    presets = json.loads(fitted[1].read_text())["presets"]
    assert tuple(presets) == NAMES
    for name, (score, low) in zip(NAMES, LOW_BIN.items(), strict=True):
        shares = [
            case["low_slabs"] / 6 for case in cases if case["texture"] == score and case["patient"] not in held_out
        ]
        expected = np.zeros(16)
        expected[low : low + 2] = np.mean(shares), 1 - np.mean(shares)
        np.testing.assert_allclose(presets[name], expected, atol=2e-6)


def test_lesions_of_validation_patients_are_not_fitted(fitted):
    report, output = fitted
    content = json.loads(output.read_text())
    assert all(preset[HELD_OUT_BIN] == preset[HELD_OUT_BIN + 1] == 0 for preset in content["presets"].values())
    assert content["fitted_on"]["count"] == report["training"]["count"] == 12
    assert report["validation"]["count"] == 4


def test_mean_hu_is_that_inside_the_masks(data, fitted):
    _, cases, held_out = data
    low_slabs = [c["low_slabs"] for c in cases if c["texture"] == 5 and c["patient"] not in held_out]
    expected = np.mean([(n * hu_of(10) + (6 - n) * hu_of(11)) / 6 for n in low_slabs])
    mean_hu = json.loads(fitted[1].read_text())["fitted_on"]["mean_hu"]
    assert mean_hu["solid"] == pytest.approx(expected, abs=0.06)
    assert mean_hu["ground_glass"] < mean_hu["part_solid"] < mean_hu["solid"]


def test_presets_are_usable_and_sum_to_one(fitted):
    conditioner = HistogramConditioner(fitted[1])
    assert tuple(conditioner.presets) == NAMES
    for preset in json.loads(fitted[1].read_text())["presets"].values():
        assert sum(preset) == pytest.approx(1, abs=1e-9)
        assert preset == [round(value, 6) for value in preset]


def test_report_counts_agreement_with_the_scores(data, fitted, tmp_path, capsys):
    training = fitted[0]["training"]
    assert training["contingency"] == [[4, 0, 0, 0, 0], [0, 0, 4, 0, 0], [0, 0, 0, 0, 4]]
    assert training["agreement"] == training["spearman_cluster"] == 1

    root, cases, held_out = data
    wrong = next(case["patient"] for case in cases if case["patient"] not in held_out)
    changed = [{**case, "texture": 5} if case["patient"] == wrong else case for case in cases]
    changed = [{**case, **{key: str(root / case[key]) for key in ("image", "label")}} for case in changed]
    (tmp_path / "datalist.json").write_text(json.dumps(changed))
    training = fit_presets(str(tmp_path), str(tmp_path / "p.json"), val_fraction=0.25)["training"]
    assert training["contingency"][0] == [3, 0, 0, 0, 1]
    assert training["agreement"] == round(11 / 12, 3)
    assert training["commonest"] == round(5 / 12, 3)
    assert "agreement 0.917 under 1-2 -> ground_glass, 3-4 -> part_solid, 5 -> solid" in capsys.readouterr().out


def test_scores_are_optional(data, tmp_path):
    root, cases, _ = data
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number, case in enumerate(cases[:6]):
        for key in ("image", "label"):
            (tmp_path / f"{key}s" / f"{number}.nii.gz").symlink_to(root / case[key])
    report = fit_presets(str(tmp_path), str(tmp_path / "p.json"), names=("dark", "bright"), val_fraction=0)
    assert report["training"]["count"] == 6
    assert report["training"]["scored"] == report["validation"]["count"] == 0
    assert report["training"]["agreement"] is report["training"]["spearman_cluster"] is None


def test_same_seed_gives_the_same_file_and_overwrite_replaces_it(data, fitted, tmp_path):
    output = tmp_path / "presets.json"
    output.write_text("old")
    fit_presets(str(data[0]), str(output), val_fraction=0.25, overwrite=True)
    assert output.read_bytes() == fitted[1].read_bytes()
    assert list(tmp_path.iterdir()) == [output]


def test_existing_output_is_refused_without_overwrite(data, tmp_path):
    output = tmp_path / "presets.json"
    output.write_text("old")
    with pytest.raises(InputError, match="exists"):
        fit_presets(str(data[0]), str(output), val_fraction=0.25)
    assert output.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("a", "b", "b")}, "names of lesion must be different"),
        ({"names": {"nodule": ["a"]}}, "names of lesion must be different"),
        ({"hu_window": (400, -1000)}, "hu_window"),
        ({"names": [str(n) for n in range(40)]}, "too few for 40"),
        ({"bundle": "no_such_bundle"}, "no_such_bundle"),
        ({"dataset_dir": "no_such_folder"}, "no_such_folder"),
    ],
)
def test_bad_input_is_told_in_one_sentence_and_writes_nothing(data, tmp_path, arguments, message):
    arguments = {
        "dataset_dir": str(data[0]),
        "output": str(tmp_path / "p.json"),
        "val_fraction": 0.25,
    } | arguments
    with pytest.raises(InputError, match=message):
        fit_presets(**arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fault", "message"), [("empty", "an empty mask"), ("broken", "cannot read case broken")])
def test_a_lesion_that_cannot_be_used_is_named(data, tmp_path, fault, message):
    root, cases, _ = data
    label = tmp_path / f"{fault}.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((12, 12, 12), dtype=np.uint8), np.diag([-1.0, 1.0, 1.0, 1.0])), label)
    if fault == "broken":
        label.write_bytes(b"no image")
    case = {"image": str(root / cases[0]["image"]), "label": str(label), "case": fault}
    (tmp_path / "datalist.json").write_text(json.dumps([case]))
    with pytest.raises(InputError, match=message):
        fit_presets(str(tmp_path), str(tmp_path / "p.json"), val_fraction=0)


def test_shipped_presets_follow_from_the_data(data_dir, repo_root, tmp_path):
    fit_presets(str(data_dir / "lidc_nodules"), str(tmp_path / "p.json"))
    fresh = json.loads((tmp_path / "p.json").read_text())
    shipped = json.loads((repo_root / "bundles/lefusion_lidc/configs/texture_presets.json").read_text())
    for name in NAMES:
        np.testing.assert_allclose(shipped["presets"][name], fresh["presets"][name], atol=1e-4)
    assert shipped["fitted_on"] == fresh["fitted_on"]
