"""Model cards tell what a person must know before they use a bundle, and the figures that the metadata repeats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bundle_runs import BUNDLES

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
SECTIONS = {
    "use": r"Use",
    "data": r"Data\b.*|.*\bdata",
    "training": r".*\btraining|Training\b.*",
    "results": r"Results",
    "limits": r"Limits",
    "licence": r"Licen[cs]e\b.*",
    "citation": r".*\bcitation|How to cite",
}
# Words in the names of measures that say how, not what, was measured.
UNITS = {"mm", "db", "hu", "percent", "median", "mean", "max", "to", "the", "in", "than"}


@pytest.fixture(params=NAMES)
def bundle(request) -> Path:
    return BUNDLES / request.param


@pytest.fixture
def card(bundle) -> str:
    return (bundle / "docs" / "README.md").read_text()


def section(card: str, title: str) -> str:
    """The text below the heading of second level that the pattern matches, with that of its subsections."""
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    found = [text for heading, text in zip(parts[1::2], parts[2::2], strict=True) if re.fullmatch(title, heading)]
    assert len(found) == 1, f"{title}: {parts[1::2]}"
    return found[0]


@pytest.mark.parametrize("title", SECTIONS.values(), ids=SECTIONS)
def test_card_has_the_section(card, title):
    assert len(section(card, title).split()) > 20


def test_card_says_what_the_bundle_is_for_and_that_it_is_not_for_the_clinic(card):
    introduction = card.split("\n## ")[0]
    assert "**Intended use:**" in introduction
    assert "Not for clinical" in introduction


def test_card_tells_the_licences_of_code_weights_and_data_and_whom_to_cite(bundle, card):
    licence = section(card, SECTIONS["licence"])
    assert "Apache-2.0" in licence
    assert "data_license.txt" in licence
    assert re.search(r"weights", licence, re.IGNORECASE)
    assert "ICLR 2025" in card
    data = (bundle / "docs" / "data_license.txt").read_text()
    for name in re.findall(r"CC BY(?:-NC-SA)? \d\.\d", data):
        assert name in licence, name


def test_training_tells_the_data_the_time_and_how_to_repeat_it(card):
    text = section(card, SECTIONS["training"])
    assert re.search(r"lefusion run training|monai\.bundle run training", text)
    assert re.search(r"\d+ (minutes|hours)", text)
    assert re.search(r"validation", text)


def test_figures_of_the_metadata_are_those_of_the_card(bundle, card):
    """Each stands in a line of the results, beside a word of its name."""
    lines = section(card, SECTIONS["results"]).splitlines()
    metrics = json.loads((bundle / "configs" / "metadata.json").read_text())["eval_metrics"]
    assert metrics
    for name, value in metrics.items():
        words = set(name.split("_")) - UNITS
        beside = [line.lower() for line in lines if value in map(float, re.findall(r"\d+(?:\.\d+)?", line))]
        assert any(word in line for word in words for line in beside), f"{name}: {value}"
