"""The numbers kept of the paper's tables."""

from __future__ import annotations

import pytest

from custom_components.errors import InputError
from custom_components.reproduction.experiments import read_experiments
from custom_components.reproduction.paper import read_table, table_names

TABLES = [(name, dataset) for name, datasets in table_names().items() for dataset in datasets]


@pytest.mark.parametrize(
    ("name", "dataset", "label", "setting", "values"),
    [
        ("1", "lidc", "Baseline", "P", (78.26, 88.90, 78.38, 88.67)),
        ("1", "lidc", "Copy-Paste", "P+N'", (77.29, 87.60, 77.80, 88.84)),
        ("1", "lidc", "LeFusion-H+DiffMask (Ours)", "P+P'+N''", (83.44, 93.35, 83.13, 93.20)),
        ("2", "emidec", "RePaint (2022)", "P+P'", (69.14, 28.93, 55.14, 33.86)),
        ("2", "emidec", "LeFusion-J+DiffMask (Ours)", "P+N''", (70.17, 42.44, 58.60, 41.24)),
        ("A1", "emidec", "Cond-Diffusion(L) (2024)", "P+N'", (58.64, 26.26, 47.90, 19.54)),
    ],
)
def test_downstream_numbers_are_those_printed(name, dataset, label, setting, values):
    rows = [row for row in read_table(name, dataset).rows if (row.label, row.setting) == (label, setting)]
    assert values in [row.values for row in rows]


def test_image_quality_numbers_are_those_printed():
    def values(name: str, dataset: str, method: str) -> list[float]:
        (row,) = [row for row in read_table(name, dataset).rows if row.method == method]
        return [value for value in row.values if value is not None]

    assert values("A2", "emidec", "lefusion_j") == [28.30, 91.41, 35.23, 93.23, 31.77, 92.32]
    assert values("A2", "lidc", "lefusion") == [22.38, 90.16]
    assert values("A3", "emidec", "repaint") == [17.69, 3.94, 15.49, 15.67, 16.59, 9.80]
    assert values("A3", "lidc", "cond_diffusion") == [6.99, 0.86]
    assert values("A4", "emidec", "lefusion_s") == [11.62, 2.97, 7.29]
    assert values("A4", "lidc", "hand_crafted") == [10.64]


@pytest.mark.parametrize(("name", "dataset"), TABLES)
def test_every_line_is_one_of_the_text(name, dataset, repo_root):
    text = repo_root.parent / "shared" / "paper" / "lefusion.txt"
    if not text.is_file():
        pytest.skip(f"no {text}")
    printed = [line.split("\t") for line in text.read_text().splitlines() if "\t" in line]
    for row in read_table(name, dataset).rows:
        numbers = [value for value in row.values if value is not None]
        # Tables of both data sets print the heart's numbers first.
        ends = [[float(cell) for cell in line if cell.replace(".", "").isdigit()] for line in printed]
        found = [end for end in ends if end[: len(numbers)] == numbers or end[-len(numbers) :] == numbers]
        assert found or not numbers, row.label


@pytest.mark.parametrize(("name", "dataset"), TABLES)
def test_rows_fit_the_columns_and_the_methods(name, dataset):
    table, methods = read_table(name, dataset), read_experiments()[dataset].methods
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        assert row.methods <= set(methods)
        if table.kind == "segmentation":
            printed = [{"P1": "P'", "N1": "N'", "N2": "N''"}[one.set] for one in row.sets]
            assert "+".join(["P", *printed]) == row.setting
            assert all((one.masks == "given") == (one.set == "P1") for one in row.sets)


def test_the_groups_are_those_of_the_paper():
    counts: dict[str | None, int] = {}
    for row in read_table("1", "lidc").rows:
        counts[row.group] = counts.get(row.group, 0) + 1
    assert list(counts.values()) == [1, 6, 5, 6, 3]
    masks = {
        group: {
            one.masks
            for row in read_table("1", "lidc").rows
            if row.group == group
            for one in row.sets
            if one.set != "P1"
        }
        for group in counts
    }
    assert list(masks.values()) == [set(), set(), {"handcrafted"}, {"copy"}, {"diffmask"}]


@pytest.mark.parametrize(("name", "dataset", "words"), [("3", "lidc", "one of"), ("2", "lidc", "not of lidc")])
def test_tables_that_the_paper_does_not_have_are_refused(name, dataset, words):
    with pytest.raises(InputError, match=words):
        read_table(name, dataset)
