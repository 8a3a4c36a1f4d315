"""Which lesions the contrast evaluation copies into which heart, and what it reports of files with known values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, files_below, save_nifti, stored_of
from scipy import ndimage

from custom_components.datasets import list_cases
from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.lesion_transfer import copy_lesions
from custom_components.volumes import read_scan, write_scan
from lefusion_scripts import evaluate_contrast as script
from lefusion_scripts.evaluate_contrast import evaluate_contrast, write_labels
from lefusion_scripts.write_phantoms import write_phantoms

CLASSES = {"mi": 3, "pmo": 4}
LABELS = LesionLabels(CLASSES, {"cavity": 1, "myocardium": 2}, joint=True)
NORMAL = ["phantom_N001", "phantom_N002", "phantom_N003"]
ROOM = (64, 64, 10)
WINDOW = (2000, 3000)  # 500 are 1 in units of [-1, 1]
# What is painted into each case: infarct, and its obstruction. The walls lie between 2250 and 2550.
PAINTED = {"phantom_N001": (2600, 2350), "phantom_N002": (2400, 2450), "phantom_N003": (2875, 2500)}
REQUESTED, ACHIEVED = {"mi": 9, "pmo": 4}, {"mi": 10, "pmo": 2}  # the one filled bin of each histogram


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> Path:
    """Three normal and three pathological hearts."""
    folder = tmp_path_factory.mktemp("hearts")
    write_phantoms(str(folder), pathological=3, normal=3, seed=1, shape=(64, 64, 3), spacing_mm=(2.2, 2.2, 10.0))
    return folder


@pytest.fixture(scope="module")
def sizes(dataset_dir) -> dict[tuple[str, str], np.ndarray]:
    """(target, source) -> voxels along each axis of the source's lesions in the target."""
    loaded = {case["case"]: nib.load(case["label"]) for case in list_cases(dataset_dir)}
    found = {}
    for target in NORMAL:
        for source in set(loaded) - set(NORMAL):
            pair = [(np.asarray(loaded[name].dataobj), loaded[name].affine) for name in (source, target)]
            places = np.argwhere(copy_lesions(*pair[0], *pair[1]) >= CLASSES["mi"])
            found[target, source] = np.ptp(places, axis=0) + 1
    return found


class Painter:
    """Stands in for the bundle: fills each class with one value, and changes one voxel elsewhere if told to."""

    def __init__(self, elsewhere: int = 0) -> None:
        self.calls: list[dict[str, Any]] = []
        self.elsewhere = elsewhere

    def __call__(self, workflow: str, bundle: str, **options: Any) -> None:
        self.calls.append({"workflow": workflow, "bundle": bundle, **options})
        for case in list_cases(options["dataset_dir"]):
            scan, label = read_scan(case["image"]), stored_of(case["label"])
            stored, lesions = scan.stored.copy(), []
            for (name, value), painted in zip(CLASSES.items(), PAINTED[case["case"]], strict=True):
                if (label == value).any():
                    stored[label == value] = painted
                    lesions.append(self.record(case["case"], name, label == value, scan.affine))
            if case["case"] == NORMAL[1]:
                stored[0, 0, 0] += self.elsewhere
            stem = Path(options["output_dir"]) / f"{case['case']}_lefusion"
            write_scan(scan, stored, stem.with_suffix(".nii.gz"))
            stem.with_suffix(".json").write_text(json.dumps({"lesions": lesions}))

    @staticmethod
    def record(case: str, name: str, mask: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        centre = nib.affines.apply_affine(affine, [(part.start + part.stop - 1) / 2 for part in box]).tolist()
        spec = {"case": case, "lesion": 1, "lesion_class": name, "centre_mm": centre, "crop_centre_mm": centre}
        spec |= {"voxels": int(mask.sum()), "volume_mm3": 1.0, "radius_mm": 1.0, "texture": "custom", "seed": 1}
        spec |= {"box": [[part.start, part.stop] for part in box], "window": WINDOW}
        spec["histogram"] = np.eye(16)[REQUESTED[name]].tolist()
        return {"spec": spec, "achieved_histogram": np.eye(16)[ACHIEVED[name]].tolist()}


@pytest.fixture
def painter(monkeypatch) -> Painter:
    stand_in = Painter()
    monkeypatch.setattr(script.workflow, "run", stand_in)
    return stand_in


def pairs(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["case"]: entry["source"] for entry in entries}


def draw(dataset_dir: Path, out: Path, spatial_size=ROOM, seed: int = 0) -> dict[str, str]:
    return pairs(write_labels(list_cases(dataset_dir), LABELS, spatial_size, seed, out))


# ----------------------------------------------------------------------------------------- pairs


def test_every_normal_case_gets_the_lesions_of_a_case_that_has_some(dataset_dir, tmp_path):
    entries = write_labels(list_cases(dataset_dir), LABELS, ROOM, 0, tmp_path)
    assert [entry["case"] for entry in entries] == NORMAL
    cases = {case["case"]: case for case in list_cases(dataset_dir)}
    for entry in entries:
        assert entry["source"] in set(cases) - set(NORMAL)
        assert Path(entry["image"]) == Path(cases[entry["case"]]["image"]).resolve()
        before, source = nib.load(cases[entry["case"]]["label"]), nib.load(cases[entry["source"]]["label"])
        written = nib.load(entry["label"])
        expected = copy_lesions(np.asarray(source.dataobj), source.affine, np.asarray(before.dataobj), before.affine)
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
        np.testing.assert_array_equal(written.affine, before.affine)
        own = expected < CLASSES["mi"]
        np.testing.assert_array_equal(expected[own], np.asarray(before.dataobj)[own])


def test_pairs_depend_on_the_seed_alone(dataset_dir, tmp_path):
    first = draw(dataset_dir, tmp_path / "first", seed=4)
    assert draw(dataset_dir, tmp_path / "again", seed=4) == first
    assert any(draw(dataset_dir, tmp_path / f"{seed}", seed=seed) != first for seed in range(4))


def test_source_whose_lesions_are_too_large_is_drawn_again(dataset_dir, sizes, tmp_path):
    free = draw(dataset_dir, tmp_path / "free")
    # Just too narrow for the largest of the lesions first drawn, so that at least one heart needs another source.
    widest = max(sizes[pair][0] for pair in free.items())
    room = (int(widest) - 1, *ROOM[1:])
    assert all(any((sizes[target, source] <= room).all() for t, source in sizes if t == target) for target in NORMAL)
    narrow = draw(dataset_dir, tmp_path / "narrow", room)
    assert list(narrow) == NORMAL
    for target, source in narrow.items():
        assert (sizes[target, source] <= room).all()
        if (sizes[target, free[target]] <= room).all():
            assert source == free[target], "a source that fits is kept, whatever was drawn again before"
    assert narrow != free


def test_room_is_measured_with_the_slices_last_however_a_stack_is_stored(dataset_dir, sizes, tmp_path):
    """Stacks stored with their slices first: the third number of spatial_size still is that of slices."""
    for part, name in (("Normal", NORMAL[0]), ("Pathological", "phantom_P001")):
        for kind in ("images", "labels"):
            volume = nib.load(dataset_dir / part / kind / f"{name}.nii.gz")
            stored = np.asarray(volume.dataobj).transpose(2, 0, 1)
            save_nifti(tmp_path / part / kind / f"{name}.nii.gz", stored, volume.affine[:, [2, 0, 1, 3]])
    size = tuple(int(n) for n in sizes[NORMAL[0], "phantom_P001"])
    assert min(size[:2]) > size[2]
    assert draw(tmp_path, tmp_path / "fits", size) == {NORMAL[0]: "phantom_P001"}
    with pytest.raises(InputError, match="no case has lesions"):
        draw(tmp_path, tmp_path / "too large", size[::-1])


def test_where_no_lesions_fit_the_target_is_named(dataset_dir, tmp_path):
    message = rf"^no case has lesions that fit into a crop of \[2, 64, 10\] in {NORMAL[0]}\.$"
    with pytest.raises(InputError, match=message):
        draw(dataset_dir, tmp_path, (2, 64, 10))


# ----------------------------------------------------------------------------------------- report


def test_report_holds_the_known_answers(dataset_dir, painter, tmp_path, capsys):
    out = tmp_path / "out"
    report = evaluate_contrast(str(dataset_dir), str(out), seed=5, weights="w.pt", num_inference_steps=3)
    assert json.loads((out / "report.json").read_text()) == report
    (call,) = painter.calls
    assert (call["workflow"], call["bundle"]) == ("inference", str(BUNDLES / "lefusion_emidec"))
    assert (call["seed"], call["weights"], call["num_inference_steps"]) == (5, "w.pt", 3)
    datalist = json.loads((out / "datalist.json").read_text())
    assert [entry["case"] for entry in datalist] == [case["case"] for case in report["cases"]] == NORMAL
    assert pairs(datalist) == draw(dataset_dir, tmp_path / "pairs", (72, 72, 10), seed=5)

    wall = {}
    for entry in datalist:
        image, label = stored_of(entry["image"]), stored_of(entry["label"])
        assert set(np.unique(label)) == {0, 1, 2, 3, 4}
        wall[entry["case"]] = image[label == 2].astype(float).mean()
    core = {"phantom_N001": 0.5, "phantom_N002": -0.1, "phantom_N003": 0.75}  # (2600 - 2350) / 500, ...
    scar = {name: (PAINTED[name][0] - mean) / 500 for name, mean in wall.items()}
    for case in report["cases"]:
        name = case["case"]
        assert case["contrasts"] == pytest.approx({"myocardium < mi": scar[name], "pmo < mi": core[name]}, abs=1e-5)
        assert case["means"]["myocardium"] == pytest.approx(wall[name], rel=1e-5)
        assert (case["means"]["mi"], case["means"]["pmo"]) == pytest.approx(PAINTED[name])
    found = report["contrasts"]
    assert found["pmo < mi"] == pytest.approx({"cases": 3, "in_order": 2 / 3, "median": 0.5})
    assert found["myocardium < mi"]["median"] == pytest.approx(np.median(list(scar.values())), abs=1e-5)
    assert [value > 0 for value in scar.values()] == [True, False, True]
    assert found["myocardium < mi"]["in_order"] == pytest.approx(2 / 3)
    # A bin is 0.125 wide.
    assert report["distance_to_request"] == pytest.approx({"mi": 0.125, "pmo": 0.25})
    assert report["largest_difference_outside"] == 0

    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert pictures == [f"{name}.png" for name in NORMAL]
    assert all((out / "pictures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    printed = capsys.readouterr().out
    assert "66.7% of 3 cases in order, median 0.50" in printed
    assert "largest difference outside the masks: 0\n" in printed


def test_the_largest_difference_outside_is_found_in_the_files(dataset_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script.workflow, "run", Painter(elsewhere=7))
    report = evaluate_contrast(str(dataset_dir), str(tmp_path / "out"))
    assert report["largest_difference_outside"] == 7
    assert [case["outside"] for case in report["cases"]] == [0, 7, 0]
    assert "largest difference outside the masks: 7\n" in capsys.readouterr().out


def test_pair_of_a_class_that_no_case_has_is_left_out(dataset_dir, painter, tmp_path):
    """Hearts whose lesions have no core."""
    for case in list_cases(dataset_dir):
        label, name = nib.load(case["label"]), f"{case['case']}.nii.gz"
        stored = np.asarray(label.dataobj)
        save_nifti(tmp_path / "data" / "labels" / name, np.where(stored == 4, 3, stored).astype(np.uint8), label.affine)
        save_nifti(tmp_path / "data" / "images" / name, stored_of(case["image"]), label.affine)
    report = evaluate_contrast(str(tmp_path / "data"), str(tmp_path / "out"))
    assert set(report["contrasts"]) == {"myocardium < mi"} and set(report["distance_to_request"]) == {"mi"}


# ----------------------------------------------------------------------------------------- refusals


def test_existing_report_is_kept_unless_overwritten(dataset_dir, painter, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("mine")
    for refusal in ({}, {"overwrite": "false"}):
        with pytest.raises(InputError, match=r"report\.json exists already: pass --overwrite true"):
            evaluate_contrast(str(dataset_dir), str(out), **refusal)
    assert list(files_below(out)) == ["report.json"] and (out / "report.json").read_text() == "mine"
    assert not painter.calls
    evaluate_contrast(str(dataset_dir), str(out), overwrite=True)
    assert len(json.loads((out / "report.json").read_text())["cases"]) == 3


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("Pathological", "^dataset_dir holds no case without lesions to paint into\\.$"),
        ("Normal", r"^none of the 3 label maps holds a lesion \(mi = 3, pmo = 4\)\.$"),
        ("nowhere", "nowhere does not exist"),
    ],
)
def test_data_set_that_lacks_a_part_is_told_in_one_sentence(dataset_dir, painter, tmp_path, kept, message):
    with pytest.raises(InputError, match=message):
        evaluate_contrast(str(dataset_dir / kept), str(tmp_path / "out"))
    assert not painter.calls and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 3}, "no key 'num_steps'"),
        ({"bundle": "lefusion_heart"}, "bundle lefusion_heart is neither"),
        ({"panel": True}, "panel is set by the evaluation itself"),
        ({"image": "a.nii.gz"}, "image is set by the evaluation itself"),
        ({"overwrite": "maybe"}, "overwrite must be true or false"),
        ({"spatial_size": [2, 64, 10]}, r"no case has lesions that fit into a crop of \[2, 64, 10\]"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(dataset_dir, painter, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        evaluate_contrast(str(dataset_dir), str(tmp_path / "out"), **options)
    assert not painter.calls and not (tmp_path / "out").exists()
