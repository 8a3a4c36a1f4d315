"""From a folder of scans and label maps to a prepared training: what is written, told and refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, files_below, read_configs, save_nifti
from made_up_organs import CYST, LIVER, TUMOUR, save_brains, save_livers

from custom_components.bundle_configs import WORKFLOWS
from custom_components.errors import InputError
from lefusion_scripts.prepare_folder import FILES, prepare_folder, read_names

PATIENTS = r"(liver_\d+)"


@pytest.fixture(scope="module")
def livers(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("livers")
    save_livers(root)
    return root


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("brains")
    save_brains(root)
    return root


@pytest.fixture(scope="module")
def tumours(tmp_path_factory) -> Path:
    """The livers with one class and nothing else in the label maps."""
    root = tmp_path_factory.mktemp("tumours")
    save_livers(root, {TUMOUR: 5, CYST: 0, LIVER: 0})
    return root


def prepare(root: Path, output: Path, **options: Any) -> dict[str, Any]:
    return prepare_folder(str(output), str(root / "images"), str(root / "labels"), **options)


@pytest.fixture(scope="module")
def prepared(livers, brains, tumours, tmp_path_factory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Folder and result of each of the three."""
    classes = {"livers": {"classes": "tumour=1,cyst=2", "anatomy": "liver=3", "patient_regex": PATIENTS}}
    done = {}
    for name, root in (("livers", livers), ("brains", brains), ("tumours", tumours)):
        output = tmp_path_factory.mktemp("prepared") / name
        done[name] = output, prepare(root, output, **classes.get(name, {}))
    return done


def read(output: Path, name: str) -> Any:
    return json.loads((output / name).read_text())


def test_every_file_is_written_and_nothing_else(prepared):
    for output, _ in prepared.values():
        assert sorted(files_below(output)) == sorted(FILES)


@pytest.mark.parametrize(
    ("name", "bundle"), [("livers", "lefusion_emidec"), ("brains", "lefusion_emidec"), ("tumours", "lefusion_lidc")]
)
def test_nearest_bundle_is_chosen_and_named_in_every_command(prepared, name, bundle):
    output, result = prepared[name]
    assert result["bundle"] == bundle
    assert len(result["commands"]) == 4
    for command in result["commands"]:
        assert f"--bundle {bundle} --config" in command
        assert f"{output}/config.json" in command


@pytest.mark.parametrize("name", ["livers", "brains", "tumours"])
def test_every_key_of_the_overlay_is_used_by_a_workflow(prepared, name):
    """MONAI accepts a key that nothing refers to without a word."""
    output, result = prepared[name]
    config, bundle = read(output, "config.json"), BUNDLES / result["bundle"]
    texts = []
    for files in WORKFLOWS.values():
        parser = read_configs(bundle, *(Path(file).stem for file in files))
        for key in config:
            if "#" in key:
                assert key in parser, key
        merged = {key: value for key, value in parser.get().items() if key != "_meta_"}
        for key, value in config.items():
            if "#" not in key:
                merged[key] = value
        texts.append(json.dumps(merged))
    unused = {key for key in config if "#" not in key and not any(f"@{key}" in text for text in texts)}
    assert unused - {"load_and_normalise"} == set()
    assert any("@load_and_normalise" in text for text in texts)


def test_overlay_holds_what_was_given_and_proposed(prepared):
    livers, brains, tumours = (read(prepared[name][0], "config.json") for name in ("livers", "brains", "tumours"))
    assert (livers["lesion_classes"], livers["anatomy"]) == ({"tumour": 1, "cyst": 2}, {"liver": 3})
    assert (livers["network_def#in_channels"], livers["network_def#out_channels"]) == (3, 2)
    assert livers["spacing_mm"] == tumours["spacing_mm"] == [1.78] * 3
    assert not livers["network_def#in_plane"]
    assert livers["intensity_percentiles"] is None
    low, high = livers["hu_window"]
    assert low < -19
    assert high > 130
    presets = {name: list(part["presets"]) for name, part in livers["texture_presets"]["classes"].items()}
    assert presets == {"tumour": ["dark", "bright"], "cyst": ["typical"]}  # all cysts are alike
    assert list(livers["texture_presets"]["classes"]) == list(livers["texture_weights"]) == ["tumour", "cyst"]
    assert (brains["spacing_mm"], brains["hu_window"]) == (None, None)
    assert brains["network_def#in_plane"]
    assert (brains["intensity_percentiles"], brains["lesion_classes"]) == ([1, 99], {"lesion": 1})
    assert brains["intensity_headroom"] > 0.5
    assert (tumours["lesion_classes"], tumours["air_below_hu"]) == ({"lesion": 5}, None)
    assert sum(tumours["texture_weights"].values()) == 6


def test_datalist_tells_patients_groups_and_lesions(prepared, livers):
    cases = {case["case"]: case for case in read(prepared["livers"][0], "datalist.json")}
    assert len(cases) == 8
    assert {cases[name]["patient"] for name in ("liver_01", "liver_01b")} == {"liver_01"}
    assert (cases["liver_07"]["group"], cases["liver_07"]["lesions"]) == ("normal", [])
    assert (cases["liver_03"]["group"], cases["liver_03"]["lesions"]) == ("lesions", [1, 2])
    assert Path(cases["liver_03"]["image"]) == livers / "images" / "liver_03_0000.nii.gz"


def test_fingerprint_holds_every_proposal_with_its_reason(prepared):
    fingerprint = read(prepared["livers"][0], "fingerprint.json")
    assert (fingerprint["cases"], fingerprint["normal_cases"], fingerprint["patients"]) == (8, 1, 7)
    assert fingerprint["oblique_cases"] == 1
    assert fingerprint["spacing_mm"]["z"]["50"] == 2.5
    assert {
        "spacing_mm",
        "crop_size",
        "spatial_size",
        "hu_window",
        "batch_size",
        "val_fraction",
        "textures of cyst",
    } <= set(fingerprint["proposals"])
    assert all(len(proposal["reason"]) > 10 for proposal in fingerprint["proposals"].values())


def test_paths_within_the_output_folder_are_relative(tumours, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).symlink_to(tumours / folder)
    prepare(tmp_path, tmp_path)
    assert read(tmp_path, "datalist.json")[0]["label"] == "labels/liver_01.nii.gz"


# ------------------------------------------------------------------------------------------------- findings


@pytest.fixture
def faulty(tumours, tmp_path) -> Path:
    """The same with a case of NaN, one on another grid and one without label map."""
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for path in (tumours / folder).iterdir():
            (tmp_path / "data" / folder / path.name).symlink_to(path)
    volume = np.full((8, 8, 8), np.nan, np.float32)
    save_nifti(tmp_path / "data" / "images" / "bad_nan.nii.gz", volume)
    save_nifti(tmp_path / "data" / "labels" / "bad_nan.nii.gz", np.ones((8, 8, 8), np.uint8))
    save_nifti(tmp_path / "data" / "images" / "bad_grid.nii.gz", np.zeros((8, 8, 8), np.int16))
    save_nifti(tmp_path / "data" / "labels" / "bad_grid.nii.gz", np.ones((8, 8, 7), np.uint8))
    save_nifti(tmp_path / "data" / "images" / "bad_alone.nii.gz", np.zeros((8, 8, 8), np.int16))
    return tmp_path / "data"


def test_pairs_with_findings_are_left_out_and_listed_and_the_exit_code_says_so(faulty, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        prepare(faulty, tmp_path / "out", classes="tumour=5")
    assert caught.value.code == 3
    told = capsys.readouterr().out
    assert told.count("left out: ") == 3
    for part in (
        "bad_nan.nii.gz holds 512 NaN",
        "bad_grid.nii.gz has shape (8, 8, 7)",
        "bad_alone.nii.gz has no label map",
    ):
        assert part in told
    assert "3 findings, listed above; 8 of 11 files or pairs are used" in told
    assert not any(case["case"].startswith("bad") for case in read(tmp_path / "out", "datalist.json"))
    assert len(read(tmp_path / "out", "fingerprint.json")["findings"]) == 3
    assert (tmp_path / "out" / "config.json").exists()


def test_strict_stops_at_findings_and_writes_nothing(faulty, tmp_path):
    with pytest.raises(InputError, match="3 findings"):
        prepare(faulty, tmp_path / "out", classes="tumour=5", strict="true")
    assert not (tmp_path / "out").exists()


def test_lesion_too_large_for_the_crop_is_listed_and_not_learnt_from(tmp_path, capsys):
    save_brains(tmp_path)
    huge = np.zeros((300, 300, 8), np.uint8)
    huge[5:290, 5:290, 2:5] = 1
    image = np.random.default_rng(0).integers(0, 500, huge.shape).astype(np.uint16)
    affine = nib.load(tmp_path / "images" / "a.nii.gz").affine
    save_nifti(tmp_path / "images" / "huge.nii.gz", image, affine)
    save_nifti(tmp_path / "labels" / "huge.nii.gz", huge, affine)
    prepare(tmp_path, tmp_path / "out")
    assert "lesion 1 of case huge" in capsys.readouterr().out
    cases = {case["case"]: case["lesions"] for case in read(tmp_path / "out", "datalist.json")}
    assert (cases["huge"], cases["a"]) == ([], [1])


# ------------------------------------------------------------------------------------------------- bad input


def test_existing_result_is_kept_unless_overwritten(tumours, prepared, tmp_path):
    output = prepared["tumours"][0]
    before = files_below(output)
    with pytest.raises(InputError, match="exists: pass --overwrite true"):
        prepare(tumours, output)
    assert files_below(output) == before
    (tmp_path / "datalist.json").write_text("[]")
    with pytest.raises(InputError, match=r"datalist.json exists"):
        prepare(tumours, tmp_path)
    prepare(tumours, tmp_path, overwrite="true")
    assert read(tmp_path, "config.json") == read(output, "config.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "PET"}, "modality must be CT, MR or auto"),
        ({"classes": "tumour"}, "--classes must be like tumour=1,cyst=2"),
        ({"classes": "tumour=5,tumour=6"}, "--classes must be like"),
        ({"classes": "tumour=5", "anatomy": "liver=5"}, "must have different labels"),
        ({"classes": "tumour=5,cyst=9"}, "no case has a lesion of class 'cyst'"),
        ({"classes": "cyst=9"}, "none of the 8 pairs can be used and has a lesion"),
        ({"patient_regex": "liver"}, "lesions of at least two patients"),
        ({"images": None}, "--images is missing"),
    ],
)
def test_unusable_request_is_told_and_nothing_is_written(tumours, tmp_path, options, message):
    settings = {"images": str(tumours / "images"), "labels": str(tumours / "labels"), **options}
    with pytest.raises(InputError, match=message):
        prepare_folder(str(tmp_path / "out"), **settings)
    assert not (tmp_path / "out").exists()


def test_names_are_read_from_text_or_a_dictionary():
    assert read_names("tumour=1, cyst = 2", "classes") == {"tumour": 1, "cyst": 2}
    assert read_names({"tumour": 1}, "classes") == {"tumour": 1}
    assert read_names(None, "classes") == {}


def test_command_is_reached_with_its_options(tumours, tmp_path, monkeypatch, capsys):
    from lefusion_scripts.cli import main

    folders = ["--images", str(tumours / "images"), "--labels", str(tumours / "labels")]
    monkeypatch.setattr(
        sys, "argv", ["lefusion", "prepare", "folder", *folders, str(tmp_path / "out"), "--strikt", "true"]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "did you mean --strict?" in capsys.readouterr().err
