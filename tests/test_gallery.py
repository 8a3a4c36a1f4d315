"""A synthetic data set on one page: what it tells, and what bounds it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from synthetic_sets import add_case, balls, finish_set, small_set

from custom_components.errors import InputError
from custom_components.gallery import write_gallery
from custom_components.gallery.pictures import embed
from custom_components.gallery.plots import count_plot, histogram_plot
from custom_components.synthesis.records import read_manifest, write_manifest

VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        fits = [(name, found) for name, found in self.elements if name == tag]
        return [found for _, found in fits if all(found.get(key) == value for key, value in attributes.items())]


def page_of(root: Path, **options) -> Page:
    page = Page(write_gallery(root, **options).read_text())
    assert page.open == []
    return page


def test_page_tells_numbers_pictures_and_lesions_of_every_case(tmp_path):
    page = page_of(small_set(tmp_path / "lungs", 3))
    assert "Synthetic data set lungs" in page.text
    assert "Research only, not for clinical use" in page.text
    for figure in ("3 cases", "3 scans", "6 lesions", "0 largest change outside the masks"):
        assert figure in page.text
    assert re.findall(r"scan_\d{4}_s1", page.text) == [f"scan_000{n}_s1" for n in range(3)]
    pictures = page.all("img")
    assert len(pictures) == 3
    assert all(picture["src"].startswith("data:image/webp;base64,") for picture in pictures)
    assert pictures[0]["alt"].startswith("Original, mask, result and difference of case scan_0000_s1: lesion solid of")
    rows = [(row["data-class"], row["data-texture"]) for row in page.all("tr") if "data-texture" in row]
    assert len(rows) == 6
    assert rows[0] == ("lesion", "solid")
    assert "histogram distance" in page.text
    assert page.text.count("0.087") >= 4


def test_page_asks_for_nothing_from_outside(tmp_path):
    page = page_of(small_set(tmp_path / "set", 2))
    for _, attributes in page.elements:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(key, "data:").startswith("data:")
    text = (tmp_path / "set" / "gallery.html").read_text()
    assert not re.search(r"https?:|url\(|@import|//[a-z]+\.", text)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'")


def test_settings_tell_no_folder_of_the_machine(tmp_path):
    root = small_set(tmp_path / "set", 1)
    finish_set(root, read_manifest(root), "/home/someone/scans", library="/home/someone/lesions")
    page = page_of(root)
    assert "scans" in page.text and "lesions" in page.text
    assert "someone" not in (root / "gallery.html").read_text()
    assert "solid:75,part_solid:20,ground_glass:5" in page.text


def test_every_text_is_escaped(tmp_path):
    evil = '"><script>alert(1)</script>&'
    root, instances = tmp_path / "a<b>", balls((20, 20, 10), [((9, 9, 5), 3)])
    record = add_case(root, "a_s1", instances.astype(np.int16), instances, classes={evil: 1}, textures=[evil])
    finish_set(root, [{**record, "case": evil, "scan": evil}], texture=evil)
    (root / "failed.jsonl").write_text(json.dumps({"case": evil, "error": evil}) + "\n")
    page = page_of(root)
    assert len(page.all("script")) == 1
    assert page.text.count(evil) >= 6
    assert page.all("tr", **{"data-texture": evil})
    assert "a<b>" in page.text


def test_large_set_shows_a_stated_sample_and_counts_all(tmp_path):
    root = small_set(tmp_path, 2)
    first, second = read_manifest(root)
    records = [{**(first, second)[n % 2], "case": f"case_{n:03d}", "scan": f"scan_{n // 2}"} for n in range(500)]
    write_manifest(root, records)
    page = page_of(root)
    assert "500 cases 250 scans 750 lesions" in page.text
    assert "60 of 500 cases, spread evenly" in page.text
    shown = re.findall(r"case_\d{3}", " ".join(re.findall(r"<h3>(.*?)</h3>", (root / "gallery.html").read_text())))
    assert (len(shown), shown[0], shown[-1]) == (60, "case_000", "case_499")
    assert len(page.all("img")) == 60
    assert (root / "gallery.html").stat().st_size < 2_000_000
    assert len(page_of(root, max_cases=5).all("img")) == 5


def test_points_on_the_map_are_bounded_and_their_number_is_told(tmp_path, monkeypatch):
    root = small_set(tmp_path, 3)
    monkeypatch.setattr("custom_components.gallery.page.MAX_SITES", 4)
    page = page_of(root)
    assert "Centres of 4 of 6 lesions" in page.text
    assert sum(path["d"].count("M") for path in page.all("path") if "site" in path.get("class", "")) == 2 * 4


def test_pictures_shrink_until_they_fit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    free, tight = (embed(tmp_path / "noise.png", bound) for bound in (10**6, 20_000))
    assert (free.width, free.height) == (400, 300)
    assert len(tight.uri) < 20_000 * 4 / 3 + 100
    assert tight.width / tight.height == pytest.approx(4 / 3, rel=0.02)


def test_histogram_shows_the_request_as_a_line_over_the_bars_of_what_was_achieved():
    requested, achieved = np.zeros(16), np.zeros(16)
    requested[2], achieved[3] = 1.0, 0.5
    plot = histogram_plot(requested, achieved, (-1000.0, 400.0), "plot", width=160, height=62)
    bars, line = (re.search(rf'class="{name}" d="([^"]*)"', plot)[1] for name in ("achieved", "requested"))
    heights = [float(h) for h in re.findall(r"M[\d.]+ 48v(-?[\d.]+)", bars)]
    tops = [48 - float(y) for y in re.findall(r"V([\d.]+)h", line)]
    assert heights == pytest.approx([0] * 3 + [-23] + [0] * 12)  # half the height of 46
    assert tops == pytest.approx([0, 0, 46] + [0] * 13)
    assert "-1000" in plot and ">400<" in plot
    assert 'class="requested"' not in histogram_plot(np.zeros(16), achieved, None, "plot")


def test_counts_of_sizes_add_up():
    values = np.concatenate([np.full(7, 3.0), np.linspace(4, 12, 30)])
    for logarithmic in (False, True):
        tips = re.findall(r"<title>[^<]*: (\d+)</title>", count_plot(values, "mm", "sizes", logarithmic))
        assert sum(int(tip) for tip in tips) == 37
    assert re.findall(r": (\d+)</title>", count_plot(np.full(3, 5.0), "mm", "one size")) == ["3"]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL", "PIR"])
def test_map_shows_the_patient_s_right_on_the_left_and_the_head_on_top(tmp_path, axes):
    # A lesion towards the patient's right, front and head, however the array runs.
    instances, image = balls((40, 40, 40), [((34, 28, 38), 1.5)]), np.zeros((40, 40, 40), np.int16)
    turned = [
        nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1])).as_reoriented(
            nib.orientations.ornt_transform(
                nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
            )
        )
        for array in (image, instances)
    ]
    arrays = [np.asarray(part.dataobj) for part in turned]
    finish_set(tmp_path, [add_case(tmp_path, "a_s1", *arrays, affine=turned[0].affine)])
    page = page_of(tmp_path)
    boxes = [(float(box["x"]), float(box["width"])) for box in page.all("rect") if box.get("class") == "box"]
    places = [path["d"] for path in page.all("path") if "site" in path.get("class", "")]
    (coronal, axial) = ([float(v) for v in re.match(r"M([\d.]+) ([\d.]+)h0", place).groups()] for place in places)
    edge, inner = boxes[0]
    assert coronal == pytest.approx([edge + inner * (1 - 34.5 / 40), edge + inner * (1 - 38.5 / 40)], abs=0.1)
    assert axial == pytest.approx([edge + inner * (1 - 34.5 / 40), edge + inner * (1 - 28.5 / 40)], abs=0.1)


def test_set_without_images_or_panels_still_has_a_page(tmp_path):
    root = small_set(tmp_path, 2)
    for path in [*(root / "images").iterdir(), *(root / "panels").iterdir()]:
        path.unlink()
    page = page_of(root)
    assert page.text.count("No picture was drawn of this case") == 2
    assert "Sites" not in page.text


def test_change_outside_the_masks_and_failed_cases_are_shown(tmp_path):
    root = small_set(tmp_path, 2)
    sidecar = root / "sidecars" / "scan_0001_s1.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "max_abs_difference_outside_mask": 3}))
    (root / "failed.jsonl").write_text('{"case": "b_s1", "error": "image b.nii.gz holds 3 NaN or infinite voxels."}\n')
    page = page_of(root)
    assert "3 largest change outside the masks" in page.text
    assert "2 cases 2 scans 3 lesions 1 failure" in page.text
    assert "b_s1 : image b.nii.gz holds 3 NaN or infinite voxels." in page.text


def test_set_without_cases_has_a_page_that_says_so(tmp_path):
    finish_set(tmp_path, [])
    assert "no complete case yet" in page_of(tmp_path).text


def test_same_set_gives_the_same_page(tmp_path):
    root = small_set(tmp_path, 3)
    first = write_gallery(root, tmp_path / "a.html").read_bytes()
    assert write_gallery(root, tmp_path / "b.html").read_bytes() == first


def test_incomplete_sidecar_is_one_sentence(tmp_path):
    root = small_set(tmp_path, 1)
    sidecar = root / "sidecars" / "scan_0000_s1.json"
    content = json.loads(sidecar.read_text())
    del content["lesions"][0]["achieved_histogram"]
    sidecar.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"case scan_0000_s1 .*achieved_histogram"):
        write_gallery(root)
    sidecar.unlink()
    with pytest.raises(InputError, match=r"scan_0000_s1\.json does not exist"):
        write_gallery(root)
