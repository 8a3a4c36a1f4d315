"""A BIDS derivative."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ... import __version__
from ...datasets import SCAN_SUFFIXES
from .layout import Layout
from .names import ALPHANUMERIC, file_name

__all__ = ["BIDSLayout"]

BIDS_VERSION = "1.11.1"
LICENCE = "that of the source scans and of the model's weights"
DESCRIPTIONS = {
    "lefusion": "Real scan with synthetic lesions painted into it by LeFusion; unchanged outside the lesions.",
    "lesion": "Voxels of the synthetic lesions, by class.",
    "instances": "Voxels of the synthetic lesions, by number.",
}
# What a lesion's row in the table of instances tells beyond its number and name.
COLUMNS = {
    "lesion_class": {"Description": "class, as in desc-lesion_dseg.tsv; classes painted together are joined by +"},
    "texture": {"Description": "texture asked for, one for each class"},
    "volume_mm3": {"Description": "volume", "Units": "mm^3"},
}
IGNORED = ("*_{suffix}.*", "*_provenance.json", "*.jsonl", "synthesis.json", "gallery.html")
README = """# {title}

SYNTHETIC lesions, painted into real scans by LeFusion-MONAI {version}. Research use only, not for clinical use.

- `anat/*_desc-lefusion_{suffix}.nii.gz`: the scan with its lesions.
- `anat/*_desc-lesion_dseg.nii.gz`: lesion classes, as in `desc-lesion_dseg.tsv`.
- `anat/*_desc-instances_dseg.nii.gz`: lesion numbers; the table beside it tells what each is.
- `anat/*_desc-lefusion_provenance.json`: hashes, weights, seeds and textures, from which a case can be made again.
- `anat/*_desc-lefusion_{suffix}.png`: a picture of the lesions.

A "subject" is one synthetic case. `participants.tsv` tells the scan it was painted into: cases of one scan show the
same patient and belong on the same side of any split.

BIDS knows neither CT nor a general suffix for MR. Images therefore lie in `anat` with the modality as their suffix, as
its extension proposal 24 has it for CT, and `.bidsignore` names them; masks and tables follow the specification.
"""


class BIDSLayout(Layout):
    """A BIDS derivative: ``sub-a/anat/sub-a_desc-lefusion_ct.nii.gz`` with its masks as ``_dseg`` files and tables.

    A case is a subject, called by the letters and digits of its name; ``participants.tsv`` tells its scan. The
    modality in lower case is the image's suffix: BIDS has no official one for CT.
    """

    name = "bids"

    @property
    def suffix(self) -> str:
        """The images' suffix."""
        return re.sub(ALPHANUMERIC, "", self.modality).lower() or "image"

    def _subject(self, case: str) -> str:
        return f"sub-{file_name(case, ALPHANUMERIC, mark='x', longest=64)}"

    def paths(self, case: str) -> dict[str, Path]:
        subject = self._subject(case)
        start = self.root / subject / "anat" / subject
        return {
            "image": Path(f"{start}_desc-lefusion_{self.suffix}.nii.gz"),
            "label": Path(f"{start}_desc-lesion_dseg.nii.gz"),
            "instances": Path(f"{start}_desc-instances_dseg.nii.gz"),
            "panel": Path(f"{start}_desc-lefusion_{self.suffix}.png"),
            "sidecar": Path(f"{start}_desc-lefusion_provenance.json"),
        }

    def case_folders(self) -> list[Path]:
        return sorted(self.root.glob("sub-*/anat"))

    def documents(self, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        """Description, readme and tables of the set, and the metadata and tables of each case."""
        documents = {
            "dataset_description.json": _json(self._description()),
            "README.md": README.format(title=self.title, version=__version__, suffix=self.suffix),
            ".bidsignore": "".join(f"{line}\n" for line in IGNORED).format(suffix=self.suffix),
            "descriptions.tsv": _table(
                ("desc_id", "description"), [(f"desc-{name}", text) for name, text in DESCRIPTIONS.items()]
            ),
            "desc-lesion_dseg.tsv": _table(
                ("index", "name"),
                [(0, "background"), *((value, name) for name, value in self.label_values.items())],
            ),
            "participants.tsv": _table(
                ("participant_id", "scan", "case", "lesions"),
                [
                    (self._subject(r["case"]), r["scan"], r["case"], len({lesion["lesion"] for lesion in r["lesions"]}))
                    for r in records
                ],
            ),
            "participants.json": _json(
                {
                    "scan": {"Description": "the real scan; all its cases show the same patient"},
                    "case": {"Description": "name of the synthetic case"},
                    "lesions": {"Description": "number of synthetic lesions"},
                }
            ),
        }
        found = {self.root / name: text for name, text in documents.items()}
        for record in records:
            found.update(self._case_documents(record))
        return found

    def _description(self) -> dict[str, Any]:
        description = {
            "Name": self.title,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "License": LICENCE,
            "GeneratedBy": [
                {
                    "Name": "LeFusion-MONAI",
                    "Version": __version__,
                    "Description": "lesions painted into real scans by lesion-focused diffusion",
                }
            ],
        }
        if self.source is not None:
            source = Path(str(self.source)).absolute()
            address = (source.parent if source.name.endswith((*SCAN_SUFFIXES, ".json")) else source).as_uri()
            description |= {"SourceDatasets": [{"URL": address}], "DatasetLinks": {"source": address}}
        return description

    def _case_documents(self, record: Mapping[str, Any]) -> dict[Path, str]:
        paths = self.paths(record["case"])
        image = f"bids::{paths['image'].relative_to(self.root).as_posix()}"
        scan = [f"bids:source:{quote(record['source'])}"] if self.source is not None else []
        mask = {"Sources": [image], "SpatialReference": image, "Manual": False}
        metadata = {
            "image": {"Description": DESCRIPTIONS["lefusion"], "Sources": scan, "SkullStripped": False},
            "label": {"Description": DESCRIPTIONS["lesion"], **mask},
            "instances": {"Description": DESCRIPTIONS["instances"], **mask, **COLUMNS},
        }
        documents = {_beside(paths[role], ".json"): _json(content) for role, content in metadata.items()}
        classes: dict[int, list[Mapping[str, Any]]] = {}
        for lesion in record["lesions"]:
            classes.setdefault(lesion["lesion"], []).append(lesion)
        rows = [
            (
                number,
                f"lesion {number}",
                "+".join(part["lesion_class"] for part in parts),
                "+".join(part["texture"] for part in parts),
                f"{sum(part['volume_mm3'] for part in parts):.1f}",
            )
            for number, parts in sorted(classes.items())
        ]
        table = _table(("index", "name", *COLUMNS), rows)
        return {**documents, _beside(paths["instances"], ".tsv"): table}


def _beside(path: Path, ending: str) -> Path:
    """The file of the same name with another ending."""
    return path.with_name(path.name.removesuffix(".nii.gz") + ending)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Tab-separated values with a line of headings; BIDS writes what is empty as n/a."""
    lines = [columns, *rows]
    return "".join("\t".join(re.sub(r"\s+", " ", str(value)) or "n/a" for value in line) + "\n" for line in lines)
