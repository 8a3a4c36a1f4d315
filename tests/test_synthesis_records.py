"""The manifest of a synthetic data set, and where it comes from."""

from __future__ import annotations

import copy
import json

import pytest

from custom_components.errors import InputError
from custom_components.synthesis.records import (
    read_manifest,
    read_run,
    read_sidecar,
    record_of,
    source_path,
    write_manifest,
)

SPEC = {
    "case": "a_s1",
    "lesion": 1,
    "lesion_class": "lesion",
    "centre_mm": [1.0, 2.0, 3.0],
    "voxels": 7,
    "volume_mm3": 7.0,
    "radius_mm": 1.2,
    "texture": "solid",
    "seed": 11,
}
SIDECAR = {
    "synthetic": True,
    "source": {"image": "a.nii.gz", "sha256": "s"},
    "synthesis": {"case": "a_s1", "scan": "a", "source": "images/a.nii.gz"},
    "files": {
        "image": {"path": "images/a_s1.nii.gz", "sha256": "i"},
        "label": {"path": "labels/a_s1.nii.gz", "sha256": "l"},
    },
    "lesions": [{"spec": SPEC, "histogram_distance": 0.04}],
}


def test_record_holds_files_hashes_and_lesions_of_a_case(tmp_path):
    assert record_of(SIDECAR, tmp_path / "sidecars" / "a_s1.json", tmp_path) == {
        "case": "a_s1",
        "scan": "a",
        "source": "images/a.nii.gz",
        "source_sha256": "s",
        "files": {
            "image": "images/a_s1.nii.gz",
            "label": "labels/a_s1.nii.gz",
            "sidecar": "sidecars/a_s1.json",
        },
        "sha256": {"image": "i", "label": "l"},
        "lesions": [
            {
                "lesion": 1,
                "lesion_class": "lesion",
                "centre_mm": [1.0, 2.0, 3.0],
                "radius_mm": 1.2,
                "volume_mm3": 7.0,
                "texture": "solid",
                "seed": 11,
                "histogram_distance": 0.04,
            }
        ],
    }


@pytest.mark.parametrize("key", ["synthesis", "files", "lesions", "source"])
def test_sidecar_without_a_part_is_named(tmp_path, key):
    broken = copy.deepcopy(SIDECAR)
    del broken[key]
    with pytest.raises(InputError, match=rf"sidecar .*b\.json .*{key}"):
        record_of(broken, tmp_path / "b.json", tmp_path)


def test_manifest_is_sorted_by_case_and_read_back(tmp_path):
    write_manifest(tmp_path, [{"case": "b"}, {"case": "ä"}, {"case": "a"}])
    assert [json.loads(line)["case"] for line in (tmp_path / "manifest.jsonl").open()] == ["a", "b", "ä"]
    assert read_manifest(tmp_path) == [{"case": "a"}, {"case": "b"}, {"case": "ä"}]
    write_manifest(tmp_path, [])
    assert read_manifest(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_missing_or_broken_manifest_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no synthetic data set"):
        read_manifest(tmp_path)
    for text in ("{", '["a"]\n', '{"scan": "a"}\n', '{"case": 5}\n'):
        (tmp_path / "manifest.jsonl").write_text('{"case": "a"}\n' + text)
        with pytest.raises(InputError, match=r"line 2 of .*manifest\.jsonl"):
            read_manifest(tmp_path)


def test_missing_or_broken_sidecar_is_one_sentence(tmp_path):
    path = tmp_path / "s.json"
    with pytest.raises(InputError, match=r"sidecar .*s\.json does not exist"):
        read_sidecar(path)
    for content in (b"{", b"[]", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"s\.json"):
            read_sidecar(path)
    path.write_text('{"a": 1}')
    assert read_sidecar(path) == {"a": 1}


def test_record_of_the_run_is_read(tmp_path):
    with pytest.raises(InputError, match=r"synthesis\.json does not exist"):
        read_run(tmp_path)
    (tmp_path / "synthesis.json").write_text('{"layout": "plain"}')
    assert read_run(tmp_path) == {"layout": "plain"}


def test_source_lies_below_the_input_beside_a_datalist_or_is_the_input(tmp_path):
    (tmp_path / "images" / "series").mkdir(parents=True)
    for name in ("a.nii.gz", "datalist.json", "images/b.nii.gz"):
        (tmp_path / name).touch()
    assert source_path(tmp_path, {"source": "images/b.nii.gz"}) == tmp_path / "images" / "b.nii.gz"
    assert source_path(tmp_path / "datalist.json", {"source": "images/b.nii.gz"}) == tmp_path / "images" / "b.nii.gz"
    assert source_path(tmp_path / "a.nii.gz", {"source": "a.nii.gz"}) == tmp_path / "a.nii.gz"
    series = tmp_path / "images" / "series"
    assert source_path(series, {"source": "series"}) == series
    assert source_path(tmp_path, {"source": "gone.nii.gz"}) == tmp_path / "gone.nii.gz"
