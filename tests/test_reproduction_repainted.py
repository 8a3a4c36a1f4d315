"""The picture of repainted lesions: whose lesions it shows, and that all of a line lie in one mask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundle_runs import save_nifti
from matplotlib.image import imread
from reproduction_plans import plan_of

from custom_components.control_pictures import save_crop_grid
from custom_components.preparation import write_json
from custom_components.reproduction.cells import write_record
from custom_components.reproduction.paper import read_table
from custom_components.reproduction.qualities import quality_cell
from custom_components.reproduction.repainted import SHOWN, repainted_lesions

RADII = (2, 3, 4, 5, 6, 7, 8, 9)
LEVEL = {"hand_crafted": -300, "lefusion": 100}
TABLE = read_table("A2", "lidc")


def ball(radius: float) -> np.ndarray:
    return ((np.indices((24, 24, 24)) - 11.5) ** 2).sum(axis=0) <= radius**2


def save_case(folder, name: str, radius: float, level: float) -> dict[str, str]:
    mask = ball(radius)
    image = save_nifti(folder / "images" / f"{name}.nii.gz", np.where(mask, level, -800).astype(np.int16))
    label = save_nifti(folder / "labels" / f"{name}.nii.gz", mask.astype(np.uint8))
    return {"image": str(image), "label": str(label), "case": name, "patient": name}


@pytest.fixture
def plan(tmp_path):
    """A grid of two folds; in the second one, two methods have repainted balls of other grey levels."""
    plan = plan_of(tmp_path, folds=2)
    fold = plan.folds[1]
    cases = [save_case(tmp_path / "real", f"c{radius}", radius, 0) for radius in RADII]
    write_json(fold.path("test") / "datalist.json", cases)
    for method, level in LEVEL.items():
        folder = quality_cell(plan, fold, method).folder(tmp_path)
        for radius in RADII:
            save_case(folder / "set", f"c{radius}", radius, level)
        write_record(folder / "result.json", {"measures": {}})
    return plan


def test_a_line_shows_one_lesion_as_it_is_and_as_each_method_paints_it(plan, tmp_path):
    lines, titles = repainted_lesions(plan, TABLE.rows)
    assert titles == ["real", "Hand-Crafted", "LeFusion"]
    assert len(lines) == SHOWN
    for _, crops, _ in lines:
        assert len({crop.site for crop in crops}) == 1
        assert [round(float(np.median(crop.values[crop.mask]))) for crop in crops] == [0, *LEVEL.values()]
    save_crop_grid(lines, titles, tmp_path / "picture.png")
    assert imread(tmp_path / "picture.png").shape[0] > 600


def test_lesions_go_from_the_smallest_to_the_largest(plan):
    lines, _ = repainted_lesions(plan, TABLE.rows)
    assert [name for name, _, _ in lines] == [
        f"{(6 * ball(radius).sum() / np.pi) ** (1 / 3):.0f} mm" for radius in (2, 3, 5, 6, 8, 9)
    ]


def test_a_lesion_that_a_method_could_not_paint_is_left_out(plan, tmp_path):
    folder = quality_cell(plan, plan.folds[1], "lefusion").folder(tmp_path) / "set"
    for part in ("images", "labels"):
        (folder / part / "c2.nii.gz").unlink()
    lines, _ = repainted_lesions(plan, TABLE.rows)
    assert len(lines) == SHOWN - 1 and lines[0][0] == "6 mm"


def test_a_method_that_could_paint_none_of_them_leaves_no_picture(plan, tmp_path):
    folder = quality_cell(plan, plan.folds[1], "lefusion").folder(tmp_path) / "set"
    for part in ("images", "labels"):
        for radius in RADII:
            (folder / part / f"c{radius}.nii.gz").rename(folder / part / f"other{radius}.nii.gz")
    assert repainted_lesions(plan, TABLE.rows) is None


def test_without_a_complete_method_there_is_no_picture(plan, tmp_path):
    for method in LEVEL:
        (quality_cell(plan, plan.folds[1], method).folder(tmp_path) / "result.json").unlink()
    assert repainted_lesions(plan, TABLE.rows) is None
    assert json.loads((plan.folds[1].path("test") / "datalist.json").read_text())
