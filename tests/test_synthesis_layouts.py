"""Where the files of a synthetic data set lie in each convention, and what describes them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from recorded_sets import write_scans, write_set

from custom_components.datasets import list_cases, split_by_patient
from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.synthesis.layouts import LAYOUTS, ROLES, layout_of, make_layout
from custom_components.synthesis.layouts.folds import folds_of
from custom_components.synthesis.layouts.names import ALPHANUMERIC, PORTABLE, file_name
from custom_components.synthesis.records import read_manifest, read_run

TWO_CLASSES = LesionLabels({"pmo": 4, "mi": 3}, {"cavity": 1, "myocardium": 2}, joint=True)
ODD_NAMES = (
    "plain",
    "a.b",
    "ab",
    "a b",
    "a_b",
    "a-b",
    "dä",
    "da",
    "d",
    "患者",
    "a/b",
    "../a",
    ".hidden",
    "a\nb",
    "a:b*?",
    "x_0000",
    "x",
    "a.nii",
    "...",
    "long" * 100,
    "long" * 101,
    "ä" * 140,
    file_name("a.b", ALPHANUMERIC, "x"),
    file_name("a.b", PORTABLE),
    file_name("a/b"),
    "sub-01",
    "caf\udce9",
)
NAMES = {
    "plain": r'[^\x00-\x1f\x7f<>:"/\\|?*]+',
    "monai": r'[^\x00-\x1f\x7f<>:"/\\|?*]+',
    "nnunet": r"[A-Za-z0-9_-]+(\.nii\.gz|\.png|\.json)",
    "bids": r"sub-[A-Za-z0-9]+_desc-(lefusion|lesion|instances)_(ct|dseg|provenance)\.(nii\.gz|json|png)",
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"), ("a", "b", "c d", "e.1", "f-2"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


# ----------------------------------------------------------------------------------------- any layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_case_name_gives_valid_paths_that_no_other_case_has(tmp_path, name):
    layout = make_layout(name, tmp_path, LesionLabels())
    found = []
    for case in ODD_NAMES:
        paths = layout.paths(case)
        assert tuple(paths) == ROLES
        for path in paths.values():
            assert path.is_relative_to(tmp_path)
            assert ".." not in path.parts
            assert re.fullmatch(NAMES[name], path.name), path.name
            assert not path.name.startswith(".")
            assert len(path.name.encode()) <= 210  # leaves room for .partial-<process>-<thread>-
            found.append(path)
    assert len(set(found)) == len(ODD_NAMES) * len(ROLES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_of_an_oddly_named_case_can_be_written(tmp_path, name):
    for case in ODD_NAMES:
        for role, path in make_layout(name, tmp_path, LesionLabels()).paths(case).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(role + repr(case))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(ODD_NAMES) * len(ROLES)


def test_valid_name_is_kept_as_it_is():
    assert make_layout("plain", "r", LesionLabels()).paths("Ä b_1.2")["image"].name == "Ä b_1.2.nii.gz"
    assert make_layout("nnunet", "r", LesionLabels()).paths("LIDC-IDRI_1")["label"].name == "LIDC-IDRI_1.nii.gz"
    assert make_layout("bids", "r", LesionLabels()).paths("P001")["image"].name == "sub-P001_desc-lefusion_ct.nii.gz"


def test_unknown_layout_is_one_sentence():
    with pytest.raises(InputError, match=r"layout must be one of plain, monai, nnunet, bids, got 'dicom'\."):
        make_layout("dicom", "r", LesionLabels())


@pytest.mark.parametrize("name", LAYOUTS)
def test_finished_set_tells_its_own_layout(tmp_path, scans, name):
    made = write_set(tmp_path, scans, name, TWO_CLASSES, title="Hearts", modality="MR")
    again = layout_of(tmp_path, read_run(tmp_path))
    assert type(again) is type(made)
    assert again.paths("a") == made.paths("a")
    assert again.label_values == made.label_values
    records = read_manifest(tmp_path)
    assert again.documents(records) == made.documents(records)
    run = read_run(tmp_path)
    del run["lesion_classes"]
    with pytest.raises(InputError, match="lesion_classes"):
        layout_of(tmp_path, run)


@pytest.mark.parametrize("name", LAYOUTS)
def test_documents_lie_outside_the_cases_paths_and_are_replaced_only_where_they_change(tmp_path, scans, name):
    layout = write_set(tmp_path, scans, name)
    records = read_manifest(tmp_path)
    documents = layout.documents(records)
    assert documents.keys().isdisjoint(path for record in records for path in layout.paths(record["case"]).values())
    before = {path: path.stat().st_mtime_ns for path in documents}
    next(iter(documents), tmp_path / "other").write_text("broken")
    layout.finish(records)
    for path, text in documents.items():
        assert path.read_text() == text
    assert sum(path.stat().st_mtime_ns != before[path] for path in documents) == min(1, len(documents))


def test_folds_are_even_and_never_part_the_cases_of_a_scan():
    records = [{"scan": f"scan{number % 23}", "case": str(number)} for number in range(69)]
    folds = folds_of(records)
    for scan in {record["scan"] for record in records}:
        assert len({fold for record, fold in zip(records, folds, strict=True) if record["scan"] == scan}) == 1
    assert sorted(folds.count(fold) for fold in range(5)) == [12, 12, 15, 15, 15]
    assert folds_of(records[::-1]) == folds[::-1]


# ----------------------------------------------------------------------------------------- monai


def test_datalist_is_read_by_monai_and_by_the_bundles(tmp_path, scans):
    write_set(tmp_path, scans, "monai", cases_per_scan=2, title="Lungs")
    entries = load_decathlon_datalist(tmp_path / "datalist.json")
    assert len(entries) == 10
    for entry in entries:
        for role in ("image", "label", "instances", "sidecar"):
            assert Path(entry[role]).is_file()
            assert Path(entry[role]).is_relative_to(tmp_path)
    content = json.loads((tmp_path / "datalist.json").read_text())
    assert content["name"] == "Lungs"
    assert content["labels"] == {"0": "background", "1": "lesion"}
    assert content["modality"] == {"0": "CT"}
    assert content["numTraining"] == 10
    assert not any(Path(entry["image"]).is_absolute() for entry in content["training"])
    cases = list_cases(tmp_path)
    assert [case["case"] for case in cases] == [record["case"] for record in read_manifest(tmp_path)]
    assert {case["patient"] for case in cases} == {"a", "b", "c d", "e.1", "f-2"}
    held_out = split_by_patient(cases, 0.2, "validation")
    assert len(held_out) == 2
    assert len({case["patient"] for case in held_out}) == 1
    assert all(len({c["fold"] for c in cases if c["patient"] == case["patient"]}) == 1 for case in cases)


def test_datalist_follows_the_manifest(tmp_path, scans):
    layout = write_set(tmp_path, scans, "monai")
    layout.finish(read_manifest(tmp_path)[:2])
    assert len(list_cases(tmp_path)) == 2


# ----------------------------------------------------------------------------------------- nnU-Net


def test_nnunet_data_set_has_one_channel_and_labels_without_gap(tmp_path, scans):
    layout = write_set(tmp_path, scans, "nnunet", TWO_CLASSES, modality="MR", title="Heart scars")
    (folder,) = tmp_path.glob("Dataset500_Heartscars*")
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "MR"}
    assert content["labels"] == {"background": 0, "mi": 1, "pmo": 2}
    assert list(content["labels"].values()) == [0, 1, 2]
    assert content["file_ending"] == ".nii.gz"
    images = sorted(path.name.removesuffix("_0000.nii.gz") for path in (folder / "imagesTr").iterdir())
    labels = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    assert images == labels
    assert content["numTraining"] == len(images) == 5
    values = np.asarray(nib.load(layout.paths("a")["label"]).dataobj)
    assert set(np.unique(values)) == {0, 1, 2}


def test_label_maps_are_stored_with_the_layout_s_values():
    label = np.array([[0, 1, 2], [3, 4, 3]], dtype=np.uint8)
    stored = make_layout("nnunet", "r", TWO_CLASSES).stored_label(label)
    np.testing.assert_array_equal(stored, [[0, 0, 0], [1, 2, 1]])
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(make_layout("plain", "r", TWO_CLASSES).stored_label(label), [[0, 0, 0], [3, 4, 3]])


def test_ct_is_called_so_that_nnunet_keeps_its_units(tmp_path, scans):
    layout = write_set(tmp_path, scans, "nnunet")
    assert json.loads((layout.folder / "dataset.json").read_text())["channel_names"] == {"0": "CT"}


def test_title_may_number_the_nnunet_data_set():
    assert make_layout("nnunet", "r", LesionLabels(), "Dataset042_Lung").folder == Path("r/Dataset042_Lung")
    assert make_layout("nnunet", "r", LesionLabels(), "Lung").folder == Path("r/Dataset500_Lung")


@pytest.mark.parametrize("name", ["background", "ignore"])
def test_label_name_that_nnunet_reserves_is_refused(name):
    with pytest.raises(InputError, match=f"layout nnunet takes no lesion class '{name}'"):
        make_layout("nnunet", "r", LesionLabels({name: 1}))


def test_nnunet_splits_never_part_the_cases_of_a_scan(tmp_path, scans):
    write_set(tmp_path, scans, "nnunet", cases_per_scan=2)
    splits = json.loads((tmp_path / "extras" / "splits_final.json").read_text())
    assert len(splits) == 5
    held_out = [name for split in splits for name in split["val"]]
    assert sorted(held_out) == sorted({name for split in splits for name in split["train"]})
    assert len(held_out) == 10
    for split in splits:
        assert set(split["train"]).isdisjoint(split["val"])
        assert {name.split("_s")[0] for name in split["train"]}.isdisjoint(n.split("_s")[0] for n in split["val"])


# ----------------------------------------------------------------------------------------- BIDS


def test_bids_derivative_is_described(tmp_path, scans):
    write_set(tmp_path, scans, "bids", title="Lungs")
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["Name"] == "Lungs"
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "LeFusion-MONAI"
    assert description["GeneratedBy"][0]["Version"]
    assert description["SourceDatasets"] == [{"URL": scans.as_uri()}]
    assert description["DatasetLinks"] == {"source": scans.as_uri()}
    assert description["License"]
    assert "Research use only" in (tmp_path / "README.md").read_text()
    assert "*_ct.*" in (tmp_path / ".bidsignore").read_text().splitlines()


def test_bids_participants_tell_scan_and_case(tmp_path, scans):
    layout = write_set(tmp_path, scans, "bids", cases_per_scan=2)
    rows = table(tmp_path / "participants.tsv")
    assert [row["case"] for row in rows] == [record["case"] for record in read_manifest(tmp_path)]
    for row in rows:
        assert layout.paths(row["case"])["image"].is_relative_to(tmp_path / row["participant_id"])
        assert row["case"].startswith(row["scan"])
        assert row["lesions"] == "2"


def test_bids_masks_have_tables_and_sources(tmp_path, scans):
    layout = write_set(tmp_path, scans, "bids", TWO_CLASSES, modality="MR")
    assert table(tmp_path / "desc-lesion_dseg.tsv") == [
        {"index": "0", "name": "background"},
        {"index": "4", "name": "pmo"},
        {"index": "3", "name": "mi"},
    ]
    anat = layout.paths("c d")["image"].parent
    subject = anat.parent.name
    rows = table(anat / f"{subject}_desc-instances_dseg.tsv")
    assert [(row["index"], row["lesion_class"]) for row in rows] == [("1", "pmo"), ("2", "pmo+mi")]
    image = json.loads((anat / f"{subject}_desc-lefusion_mr.json").read_text())
    assert image["Sources"] == ["bids:source:c%20d.nii.gz"]
    mask = json.loads((anat / f"{subject}_desc-lesion_dseg.json").read_text())
    assert mask["Sources"] == [f"bids::{subject}/anat/{subject}_desc-lefusion_mr.nii.gz"]
    assert (tmp_path / mask["Sources"][0].removeprefix("bids::")).is_file()
