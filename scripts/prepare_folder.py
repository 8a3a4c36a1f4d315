"""From a folder of one's own scans with lesions to the settings of a training, each with its reason."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components.case_pairs import CasePair, Finding, check_pair, label_values, pair_cases
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.fingerprint import CaseMeasures, measure_case, summarise
from custom_components.fingerprint_picture import save_fingerprint
from custom_components.labels import LesionLabels
from custom_components.proposals import TEXTURES, Proposal, texture_names

from .fit_presets import fit_presets
from .own_data_config import with_textures
from .own_data_plan import Plan, make_plan
from .own_data_report import next_commands, print_fingerprint, print_misfits, print_proposals

FILES = ("datalist.json", "texture_presets.json", "fingerprint.json", "fingerprint.png", "config.json")
INCOMPLETE = 3  # exit code: done, but not for all


def prepare_folder(
    output_dir: str,
    images: str | None = None,
    labels: str | None = None,
    classes: Any = None,
    anatomy: Any = None,
    modality: str = "auto",
    name: str | None = None,
    patient_regex: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prepare a training on your own data: check it, measure it, propose settings, print the next commands.

    OUTPUT_DIR gets ``fingerprint.json`` and ``fingerprint.png`` (what the data look like), ``texture_presets.json``,
    ``datalist.json`` (the cases; images stay where they are) and, last, ``config.json``, an overlay for the bundle that
    the printed commands name. Pairs with findings are left out and listed; the exit code then is 3.

    Args:
        output_dir: folder to write to.
        images: folder of scans, NIfTI or DICOM series folders.
        labels: folder of label maps of the same names, NIfTI; nnU-Net's case_0000.nii.gz goes with case.nii.gz.
        classes: the lesion classes' labels, "tumour=1,cyst=2"; by default every value that is found is a class.
        anatomy: other structures' labels, "liver=3"; they are known, but never painted into.
        modality: CT (Hounsfield units), MR (any units that differ from scan to scan), or auto.
        name: of the data set; the output folder's by default.
        patient_regex: finds the patient in a case's name; every case is a patient of its own without it.
        strict: stop, with nothing written, where a pair has a finding.
        overwrite: replace an earlier result.

    Returns:
        ``bundle``, the one whose configs are nearest, and the ``commands`` that come next.

    Raises:
        InputError: for unusable folders or options, an existing result, or too few cases to train on.
    """
    output, strict, overwrite = Path(str(output_dir)), as_flag(strict, "strict"), as_flag(overwrite, "overwrite")
    for role, folder in (("images", images), ("labels", labels)):
        if folder is None:
            raise InputError(f"--{role} is missing: the folder of the {'scans' if role == 'images' else 'label maps'}.")
    if modality not in ("auto", "CT", "MR"):
        raise InputError(f"modality must be CT, MR or auto, got {modality!r}.")
    files = {name: output / name for name in FILES}
    for path in files.values():
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists: pass --overwrite true or another folder.")
    check_writable(output)
    pairs, findings = pair_cases(images, labels, patient_regex)
    meaning = read_labels(classes, anatomy, pairs)
    cases, found = measure(pairs, meaning)
    findings = [*findings, *found]
    for finding in findings:
        print(f"left out: {finding.sentence}")
    if findings and strict:
        raise InputError(f"--strict: {count(findings)}, listed above; nothing was written.")
    for lesion_class in meaning.names:
        if not any(case.has(lesion_class) for case in cases):
            raise InputError(f"no case has a lesion of class {lesion_class!r} (label {meaning.classes[lesion_class]}).")

    fingerprint = {"name": name or output.resolve().name, **summarise(cases, meaning)}
    fingerprint["findings"] = [finding.sentence for finding in findings]
    print_fingerprint(fingerprint)
    plan = make_plan(cases, meaning, modality)
    files["config.json"].unlink(missing_ok=True)  # which tells that a preparation is complete
    write_json(files["datalist.json"], datalist(pairs, cases, plan.fitting, output))
    textures, report = fit_textures(plan, output, files["texture_presets.json"])
    proposals = {**plan.proposals, **textures}
    print("\nproposed settings")
    print_proposals(proposals)
    print_misfits(cases, plan.fitting)
    print(f"\n{report.strip()}")

    fingerprint["proposals"] = {key: proposal._asdict() for key, proposal in proposals.items()}
    write_json(files["fingerprint.json"], fingerprint)
    write_atomically(
        files["fingerprint.png"],
        lambda path: save_fingerprint(cases, meaning.names, path, plan.size_mm(cases), plan.config["hu_window"]),
    )
    presets = json.loads(files["texture_presets.json"].read_text())
    write_json(files["config.json"], with_textures(plan.config, presets, plan.base))
    print(f"wrote {', '.join(FILES)} to {output}")
    commands = next_commands(plan, output)
    if findings:
        total = len(cases) + len(findings)
        print(f"\n{count(findings)}, listed above; {len(cases)} of {total} files or pairs are used")
        sys.exit(INCOMPLETE)
    return {"bundle": plan.base, "commands": commands}


def fit_textures(plan: Plan, output: Path, presets: Path) -> tuple[dict[str, Proposal], str]:
    """Fits the texture presets and gives, for each class, their names with the reason, and the fit's report."""
    counts = {
        name: sum(name in lesion.volume_mm3 for case in plan.training for lesion in case.lesions)
        for name in plan.config["lesion_classes"]
    }
    names = {name: list(texture_names(count)) for name, count in counts.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as report:
        draft = Path(folder) / "config.json"
        draft.write_text(json.dumps(plan.config))
        settings = {"bundle": plan.base, "config": [str(draft)], "fallbacks": TEXTURES, "overwrite": True}
        fit_presets(str(output), str(presets), names, **settings)
    content = json.loads(presets.read_text())
    textures = {}
    for name, part in content.get("classes", {plan.first_class: content}).items():
        reason = f"{counts[name]} training lesion{'s' * (counts[name] != 1)}"
        if len(part["presets"]) < len(names[name]):
            reason += f"; {len(names[name])} groups would hardly differ in their means"
        textures[f"textures of {name}"] = Proposal(list(part["presets"]), reason)
    return textures, report.getvalue().rpartition("wrote ")[0]


def count(findings: Sequence[Finding]) -> str:
    """How many findings, in words."""
    return f"{len(findings)} finding" + "s" * (len(findings) != 1)


def read_labels(classes: Any, anatomy: Any, pairs: Sequence[CasePair]) -> LesionLabels:
    """What the label maps' values mean; InputError where that cannot be understood."""
    structures = read_names(anatomy, "anatomy")
    if classes is None:
        values = [value for value in label_values(pairs) if value not in structures.values()]
        if not values:
            raise InputError("no label map holds a lesion.")
        classes = {"lesion": values[0]} if len(values) == 1 else {f"lesion_{value}": value for value in values}
    return LesionLabels(read_names(classes, "classes"), structures)


def read_names(given: Any, option: str) -> dict[str, int]:
    """``"tumour=1,cyst=2"``, or a dictionary, as a dictionary."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    names: dict[str, int] = {}
    for part in str(given).split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not name or not value.isdigit() or name in names:
            raise InputError(f"--{option} must be like tumour=1,cyst=2, got {given!r}.")
        names[name] = int(value)
    return names


def measure(pairs: Sequence[CasePair], labels: LesionLabels) -> tuple[list[CaseMeasures], list[Finding]]:
    """Checks and measures every pair."""
    cases, findings = [], []
    for pair in tqdm(pairs, desc="checking and measuring", delay=1):
        try:
            scan, label = check_pair(pair, labels)
        except InputError as error:
            findings.append(Finding(pair.case, str(error)))
        else:
            cases.append(measure_case(pair.case, pair.patient, scan, label, labels))
    if not any(case.lesions for case in cases):
        told = f" Findings: {' '.join(finding.sentence for finding in findings[:3])}" if findings else ""
        raise InputError(f"none of the {len(pairs)} pairs can be used and has a lesion.{told}")
    return cases, findings


def datalist(
    pairs: Sequence[CasePair], cases: Sequence[CaseMeasures], fitting: Mapping[str, list[int]], output: Path
) -> list[dict[str, Any]]:
    """The usable cases; paths are relative where they lie in the output folder."""
    used, root = {case.case: case for case in cases}, output.resolve()

    def told(path: Path) -> str:
        path = Path(os.path.abspath(path))
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    return [
        {
            "image": told(pair.image),
            "label": told(pair.label),
            "case": pair.case,
            "patient": pair.patient,
            "group": "lesions" if used[pair.case].lesions else "normal",
            "lesions": fitting[pair.case],
        }
        for pair in pairs
        if pair.case in used
    ]


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=2) + "\n"))
