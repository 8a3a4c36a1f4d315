"""The gallery command, and its page as a browser shows it on a phone and on a desk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_sets import small_set

from custom_components.errors import InputError
from lefusion_scripts.gallery import gallery

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Shows the page in a frame: the window of a browser without a screen cannot be as narrow as a phone.
FRAME = """<!doctype html><body style="margin:0"><iframe id="frame" srcdoc="{page}"
style="border:0;width:{width}px;height:2400px"></iframe><script>
frame.onload = () => {{
  const page = frame.contentDocument, select = page.querySelector("select[data-filter=texture]");
  const cases = () => [...page.querySelectorAll("article")].filter((one) => one.offsetHeight > 0).length;
  const all = cases();
  const sizes = [frame.contentWindow.innerWidth, page.documentElement.scrollWidth];
  {action}
  document.title = JSON.stringify({{sizes, all, filtered: cases(), told: page.querySelector("output").textContent}});
}};
</script></body>"""
FILTER = 'select.value = "ground_glass"; select.dispatchEvent(new Event("change", {bubbles: true}));'


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return small_set(tmp_path_factory.mktemp("set") / ("a_long_name_of_a_set_without_any_space" * 2), 4)


@pytest.fixture(scope="module")
def page(root) -> str:
    gallery(str(root))
    return (root / "gallery.html").read_text()


def browse(folder: Path, page: str, width: int, *options: str, action: str = "") -> str:
    """What a browser prints of the page in a frame of a width."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=html.escape(page), width=width, action=action))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [browser, *flags, f"--window-size={max(width, 500)},2400", *options, frame.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.integration
@pytest.mark.parametrize("width", [360, 1280])
def test_page_fits_the_screen_and_the_filter_leaves_what_was_chosen(tmp_path, page, width):
    dom = browse(tmp_path, page, width, "--dump-dom", action=FILTER)
    seen = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom)[1]))
    assert seen["sizes"][0] == width
    assert seen["sizes"][1] <= width
    # Only the second and the third case hold a lesion of ground glass.
    assert (seen["all"], seen["filtered"], seen["told"]) == (4, 2, "2 of 4 shown")


@pytest.mark.integration
@pytest.mark.parametrize("width", [360, 1280])
def test_picture_of_the_page_is_not_blank(tmp_path, page, width):
    browse(tmp_path, page, width, f"--screenshot={tmp_path / 'page.png'}")
    shot = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[:, :width].astype(float)
    assert shot.shape == (2400, width)
    for part in np.array_split(shot, 4):
        assert part.std() > 3


@pytest.mark.integration
def test_command_writes_the_page_and_says_where(root, tmp_path):
    command = [sys.executable, "-m", "lefusion_scripts.cli", "gallery", str(root), "--output", "page.html"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    assert "gallery: page.html" in process.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_existing_page_is_replaced_only_when_asked(root, page):
    (root / "gallery.html").write_text("mine")
    with pytest.raises(InputError, match=r"gallery\.html exists; --overwrite true"):
        gallery(str(root))
    assert (root / "gallery.html").read_text() == "mine"
    gallery(str(root), overwrite=True)
    assert (root / "gallery.html").read_text() == page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cases": 0}, "cases must be"),
        ({"cases": "all"}, "cases must be"),
        ({"output": "page.pdf"}, "page.pdf must end in .html"),
        ({"directory": "missing"}, "missing is not a folder"),
        ({"directory": "."}, "holds no manifest.jsonl"),
    ],
)
def test_bad_options_are_one_sentence(root, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        gallery(**{"directory": str(root), "output": "out.html", **options})
    assert list(tmp_path.iterdir()) == []
