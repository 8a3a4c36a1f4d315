"""Where the texture evaluation puts its sites, on a chest phantom, and what it reports, on known sidecars."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from custom_components.errors import InputError
from custom_components.volumes import Scan, read_scan, write_scan
from lefusion_scripts import evaluate_texture as script
from lefusion_scripts.evaluate_texture import build_report, evaluate_texture, find_lung, place_sites, read_shapes

SPACING = np.array([1.5, 1.5, 2.0])
SHAPE = (130, 100, 60)
TOUCHING = np.ones((3, 3, 3))
BINS = {"ground_glass": 2, "part_solid": 6, "solid": 11}


def ball(centre_mm, radii_mm) -> np.ndarray:
    """An ellipsoid on the phantom's grid; millimetres from the middle of the phantom."""
    grid = [(np.arange(n) - n // 2) * s for n, s in zip(SHAPE, SPACING, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    return (
        sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre_mm, np.broadcast_to(radii_mm, 3), strict=True)) < 1
    )


@pytest.fixture(scope="module")
def phantom() -> dict:
    """Two lungs, the left with a bulla and a nodule, the right with many vessels; windpipe, bronchi, bowel gas."""
    x, y, z = np.meshgrid(*[(np.arange(n) - n // 2) * s for n, s in zip(SHAPE, SPACING, strict=True)], indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[(x / 92) ** 2 + (y / 70) ** 2 < 1] = 40
    right, left = ball((42, 0, 5), (32, 50, 48)), ball((-42, 0, 5), (32, 50, 48))
    windpipe = (x**2 + y**2 < 8**2) & (z > -5)
    bronchi = (y**2 + (z + 2) ** 2 < 3.5**2) & (np.abs(x) < 20)
    bowel = ball((0, 20, -50), (20, 20, 9))
    hu[right | left] = -850
    vessels = right & (((x - 42 + 100) % 12 - 6) ** 2 + ((y + 100) % 12 - 6) ** 2 < 4**2) & (y > -25)
    bulla, nodule = ball((-42, -18, 5), (24, 24, 38)), ball((-42, 25, 0), 7)
    hu[vessels | nodule] = 30
    hu[bulla | windpipe | bronchi | bowel] = -1000
    hu += np.random.default_rng(0).normal(0, 10, SHAPE)
    affine = nib.affines.from_matvec(np.diag(SPACING * (-1, -1, 1)), (97, 75, -60))  # as scanners store: x and y turned
    scan = Scan(Path("phantom.nii.gz"), hu.round().astype(np.int16), 1.0, 0.0, affine)
    lungs = right | left
    airways = (windpipe | bronchi) & ~lungs
    return {"scan": scan, "lungs": lungs, "airways": airways, "bowel": bowel, "nodule": nodule}


@pytest.fixture(scope="module")
def shapes() -> list[np.ndarray]:
    """A larger and two smaller lesions on the phantom's grid, of different numbers of voxels."""
    cut = [ball((0, 0, 0), radii) for radii in ((9, 7, 8), 5, 3.5)]
    return [shape[ndimage.find_objects(shape.astype(int))[0]] for shape in cut]


@pytest.fixture(scope="module")
def placed(phantom, shapes) -> np.ndarray:
    return place_sites(phantom["scan"], phantom["nodule"], shapes, sites=9, seed=3)


def components(placed: np.ndarray) -> list[np.ndarray]:
    labels, count = ndimage.label(placed, TOUCHING)
    return [labels == number for number in range(1, count + 1)]


def distance_mm(voxels: np.ndarray, others: np.ndarray) -> float:
    """The shortest distance between two sets of voxels."""
    return cKDTree(np.argwhere(others) * SPACING).query(np.argwhere(voxels) * SPACING)[0].min()


def test_lung_is_found_away_from_its_walls_and_without_airways_bowel_gas_and_outside_air(phantom):
    lung = find_lung(phantom["scan"])
    assert not (lung & ~phantom["lungs"]).any()
    assert not (lung & (phantom["airways"] | phantom["bowel"])).any()
    depth_mm = ndimage.distance_transform_edt(phantom["lungs"], sampling=SPACING)
    assert lung[depth_mm >= 6].mean() > 0.95  # a vessel at the pleura counts as wall
    assert lung[depth_mm >= 14].all()  # those within, and the nodule, do not


def test_lung_is_the_same_whichever_array_axis_is_axial(phantom):
    scan = phantom["scan"]
    order = (2, 0, 1)
    turned = Scan(scan.path, scan.stored.transpose(order), 1.0, 0.0, scan.affine[:, [*order, 3]])
    assert np.array_equal(find_lung(turned), find_lung(scan).transpose(order))


def test_as_many_sites_as_asked_are_placed_each_a_whole_shape(placed, shapes):
    assert placed.dtype == np.uint8 and set(np.unique(placed)) == {0, 1}
    sites = components(placed)
    assert len(sites) == 9
    assert sorted(int(site.sum()) for site in sites) == sorted(3 * [int(shape.sum()) for shape in shapes])


def test_sites_keep_away_from_lung_walls_and_nodules(placed, phantom):
    assert not (placed.astype(bool) & ~phantom["lungs"]).any()
    assert distance_mm(placed, ~(phantom["lungs"] | phantom["airways"])) >= 4
    assert distance_mm(placed, phantom["nodule"]) >= 10


def test_bounding_boxes_of_sites_are_at_least_6_mm_apart(placed):
    boxes = [ndimage.find_objects(site.astype(int))[0] for site in components(placed)]
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            gaps = [max(a.start - b.stop, b.start - a.stop) * s for a, b, s in zip(one, other, SPACING, strict=True)]
            assert max(gaps) >= 6


def test_sites_are_poor_in_vessels_and_not_in_air_spaces(placed, phantom):
    for site in components(placed):
        values = phantom["scan"].stored[site]
        assert (values < -600).mean() >= 0.9
        assert -950 < values.mean() < -600


def test_sites_depend_on_the_seed_only(placed, phantom, shapes):
    assert np.array_equal(place_sites(phantom["scan"], phantom["nodule"], shapes, sites=9, seed=3), placed)
    assert not np.array_equal(place_sites(phantom["scan"], phantom["nodule"], shapes, sites=9, seed=4), placed)


def test_too_few_places_are_told(phantom, shapes, monkeypatch):
    monkeypatch.setattr(script, "TRIES", 5)
    with pytest.raises(InputError, match=r"found \d+ nodule-free lung sites .* asks for 200"):
        place_sites(phantom["scan"], phantom["nodule"], shapes, sites=200)
    tissue = Scan(Path("liver.nii.gz"), np.full(SHAPE, 40, np.int16), 1.0, 0.0, phantom["scan"].affine)
    with pytest.raises(InputError, match="found 0 nodule-free lung sites in liver"):
        place_sites(tissue, phantom["nodule"], shapes, sites=1)


def write_ball(path: Path, radius_mm: float, spacing_mm: float = 1.0) -> np.ndarray:
    """A mask file with a lopsided ball, x and y turned as in the phantom; returns its voxels."""
    grid = np.stack(np.meshgrid(*[np.arange(41) - 19] * 3, indexing="ij")) * spacing_mm
    mask = ((grid**2).sum(axis=0) < radius_mm**2) & ~((grid > 0).all(axis=0))
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1])
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
    return mask


def test_shapes_keep_their_volume_on_the_scans_grid_and_unsuitable_sizes_are_left_out(tmp_path, phantom):
    cases = []
    for radius in (2, 5, 9, 16):  # of which 4 mm and 32 mm are no sizes to paint
        write_ball(tmp_path / f"{radius}.nii.gz", radius)
        cases.append({"label": str(tmp_path / f"{radius}.nii.gz")})
    found = read_shapes(cases, phantom["scan"])
    assert len(found) == 2
    for shape, radius in zip(found, (5, 9), strict=True):
        wanted_mm3 = 7 / 8 * 4 / 3 * np.pi * radius**3
        assert shape.sum() * SPACING.prod() == pytest.approx(wanted_mm3, rel=0.2)
        assert np.abs(np.array(shape.shape) * SPACING - 2 * radius).max() <= 2 * SPACING.max()
    with pytest.raises(InputError, match="none of the 1 lesion masks"):
        read_shapes(cases[:1], phantom["scan"])


def test_a_shape_on_a_grid_of_equal_spacing_is_copied_voxel_for_voxel(tmp_path):
    mask = write_ball(tmp_path / "a.nii.gz", 6)
    cut = mask[ndimage.find_objects(mask.astype(int))[0]]
    scan = Scan(tmp_path, np.zeros((5, 5, 5)), 1.0, 0.0, np.diag([1.0, -1.0, 1.0, 1.0]))
    (shape,) = read_shapes([{"label": str(tmp_path / "a.nii.gz")}], scan)
    assert np.array_equal(shape, cut[::-1])  # the scan's x axis runs the other way


def spike(number: int) -> list[float]:
    return np.eye(16)[number].tolist()


def sidecar(texture: str, achieved: list[int], mean_hu: list[float], seeds: tuple[int, ...] = (7, 8)) -> dict:
    """A sidecar of two sites whose histograms have one filled bin each."""
    request = spike(BINS[texture]) if texture in BINS else [0.0] * 16
    sites = zip(achieved, mean_hu, (4.0, 10.0), seeds, strict=True)
    return {
        "lesions": [
            {
                "spec": {"box": [[0, 1]] * 3, "seed": seed, "radius_mm": radius, "histogram": request},
                "achieved_histogram": spike(number),
                "mean_painted": mean,
                "std_painted": 30.0,
                "mean_before": -850.0,
            }
            for number, mean, radius, seed in sites
        ]
    }


@pytest.fixture
def sidecars() -> dict:
    return {
        "ground_glass": sidecar("ground_glass", [2, 3], [-700, -650]),
        "part_solid": sidecar("part_solid", [6, 6], [-400, -300]),
        "solid": sidecar("solid", [11, 8], [-100, -320]),  # on the second site darker than asked, and than part-solid
        "none": sidecar("none", [6, 6], [-400, -400]),
    }


def test_report_holds_the_known_answers(sidecars):
    report = build_report(sidecars, 0.0)
    assert (report["sites"], report["size_mm"], report["mean_hu_before"]) == (2, [8, 20], -850)
    # A bin is 0.125 wide: the distance of two spikes is 0.125 times the bins between them.
    assert report["textures"]["ground_glass"] == pytest.approx(
        {
            "mean_hu": -675,
            "sd_hu": 25,
            "sd_within_hu": 30,
            "distance_to_ground_glass": 0.0625,
            "distance_to_part_solid": 0.4375,
            "distance_to_solid": 1.0625,
        }
    )
    none = report["textures"]["none"]
    assert [none[f"distance_to_{preset}"] for preset in BINS] == pytest.approx([0.5, 0, 0.625])
    margins = {name: (row["mean"], row["positive_percent"]) for name, row in report["margins"].items()}
    assert margins["solid against ground_glass"] == pytest.approx((0.75, 100))
    assert margins["ground_glass against solid"] == pytest.approx((1.0, 100))
    assert margins["solid against part_solid"] == pytest.approx((0.25, 50))
    assert len(margins) == 6
    criteria = {name.split(",")[0]: (row["value"], row["met"]) for name, row in report["criteria"].items()}
    assert criteria == {
        "sites ordered ground_glass < part_solid < solid": (50, False),
        "swap test": (465, True),
        "sites with positive margins": (50, False),  # of all pairs, which comes after solid <-> ground_glass
        "distance to the request": (0.1875, False),
        "largest difference outside the masks": (0, True),
    }
    assert report["criteria"]["sites with positive margins, solid <-> ground_glass, %"]["value"] == 100
    json.dumps(report, allow_nan=False)


def test_any_difference_outside_the_masks_is_a_failure(sidecars):
    (row,) = (row for name, row in build_report(sidecars, 1.0)["criteria"].items() if "outside" in name)
    assert (row["value"], row["met"]) == (1, False)


def test_sidecars_of_other_seeds_are_refused(sidecars):
    sidecars["solid"] = sidecar("solid", [11, 11], [-100, -100], seeds=(7, 9))
    with pytest.raises(InputError, match="different sites or seeds"):
        build_report(sidecars, 0.0)


@pytest.fixture
def inputs(tmp_path, phantom) -> dict:
    """The phantom and lesion masks of eight patients as files, and the options that name them."""
    for number in range(8):
        for folder in ("images", "labels"):
            write_ball(tmp_path / "data" / folder / f"case{number}.nii.gz", 4)
    scan = phantom["scan"]
    write_scan(scan, scan.stored, tmp_path / "ct.nii.gz")
    write_scan(scan, phantom["nodule"].astype(np.uint8), tmp_path / "nodules.nii.gz")
    files = {"image": tmp_path / "ct.nii.gz", "nodules": tmp_path / "nodules.nii.gz", "shapes": tmp_path / "data"}
    return {**{key: str(path) for key, path in files.items()}, "output_dir": str(tmp_path / "out"), "sites": 2}


class Painter:
    """Stands in for the bundle: fills every site with one value a texture, and one voxel elsewhere if told to."""

    def __init__(self, elsewhere: int = 0) -> None:
        self.calls: list[dict] = []
        self.elsewhere = elsewhere

    def __call__(self, workflow: str, bundle: str, config: tuple, **options) -> None:
        self.calls.append(options)
        texture, scan = options["texture"], read_scan(options["image"])
        mask = read_scan(options["mask"]).stored > 0
        hu = {"ground_glass": -700, "part_solid": -400, "solid": -50, "none": -300}[texture]
        stored = np.where(mask, hu, scan.stored).astype(scan.stored.dtype)
        stored[0, 0, 0] += self.elsewhere
        out = Path(options["output_dir"])
        write_scan(scan, stored, out / "ct_lefusion.nii.gz")
        content = sidecar(texture, [BINS.get(texture, 6)] * 2, [hu, hu])
        labels, _ = ndimage.label(mask, TOUCHING)
        for entry, box in zip(content["lesions"], ndimage.find_objects(labels), strict=True):
            centre = nib.affines.apply_affine(scan.affine, [(part.start + part.stop - 1) / 2 for part in box])
            entry["spec"] |= {"box": [[part.start, part.stop] for part in box], "centre_mm": centre.tolist()}
            entry["spec"] |= {"case": "ct", "lesion": 1, "voxels": 9, "volume_mm3": 9.0, "texture": texture}
            entry["spec"] |= {"lesion_class": "lesion", "crop_centre_mm": centre.tolist(), "window": [-1000, 400]}
        content |= {"bundle": {}, "source": {}, "mask": {}, "weights": None}
        content["settings"] = {"texture": texture, "hu_window": [-1000, 400], "num_inference_steps": 10}
        (out / "ct_lefusion.json").write_text(json.dumps(content))


def test_every_texture_is_painted_on_the_same_sites_with_the_same_seed(inputs, monkeypatch, tmp_path, capsys):
    painter = Painter()
    monkeypatch.setattr(script.workflow, "run", painter)
    report = evaluate_texture(**inputs, seed=5, num_inference_steps=3)
    assert [call["texture"] for call in painter.calls] == ["ground_glass", "part_solid", "solid", "none"]
    assert {(call["mask"], call["seed"], call["num_inference_steps"]) for call in painter.calls} == {
        (str(tmp_path / "out" / "sites.nii.gz"), 5, 3)
    }
    sites = nib.load(tmp_path / "out" / "sites.nii.gz")
    assert sites.get_data_dtype() == np.uint8 and np.allclose(sites.affine, nib.load(inputs["image"]).affine)
    assert len(components(np.asarray(sites.dataobj))) == 2
    assert all(row["met"] for row in report["criteria"].values())
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert (tmp_path / "out" / "texture_sites.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "painting part_solid" in printed and "NOT MET" not in printed
    with pytest.raises(InputError, match="ground_glass exists already"):
        evaluate_texture(**inputs)
    assert len(painter.calls) == 4


def test_the_largest_difference_outside_is_found_in_the_files(inputs, monkeypatch, capsys):
    monkeypatch.setattr(script.workflow, "run", Painter(elsewhere=7))
    report = evaluate_texture(**inputs)
    assert report["criteria"]["largest difference outside the masks, HU"] == {
        "value": 7.0,
        "wanted": "<= 0",
        "met": False,
    }
    assert "NOT MET" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": 0}, "sites must be a whole number"),
        ({"texture": "solid"}, "texture is set by the evaluation itself"),
        ({"resume": True}, "resume is set by the evaluation itself"),
        ({"num_steps": 3}, "no key 'num_steps'"),
        ({"config_files": "nothing.json"}, "nothing.json"),
        ({"image": "nowhere.nii.gz"}, "nowhere.nii.gz does not exist"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(inputs, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        evaluate_texture(**{**inputs, **options})
    assert not (tmp_path / "out").exists()
