"""From a folder of one's own scans with lesions to the settings of a training, each with its reason."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components.case_pairs import CasePair, Finding, check_pair, label_values, pair_cases
from custom_components.datasets import split_by_patient
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from custom_components.fingerprint import CaseMeasures, measure_case, summarise
from custom_components.fingerprint_picture import save_fingerprint
from custom_components.labels import LesionLabels
from custom_components.proposals import (
    Proposal,
    lesions_that_fit,
    propose_crop,
    propose_modality,
    propose_percentiles,
    propose_split,
    propose_textures,
    propose_window,
)

from .fit_presets import fit_presets
from .own_data_config import choose_base, divisor, network_keys, overlay, with_textures
from .own_data_report import next_commands, print_fingerprint

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
        ``base``, ``config``, ``findings`` and the ``commands``.

    Raises:
        InputError: for unusable folders or options, an existing result, or too few cases to train on.
    """
    output, strict, overwrite = Path(str(output_dir)), as_flag(strict, "strict"), as_flag(overwrite, "overwrite")
    for role, folder in (("images", images), ("labels", labels)):
        if folder is None:
            raise InputError(f"--{role} is missing: the folder of the {'scans' if role == 'images' else 'label maps'}.")
    if modality not in ("auto", "CT", "MR"):
        raise InputError(f"modality must be CT, MR or auto, got {modality!r}.")
    if (output / "config.json").exists() and not overwrite:
        raise InputError(f"{output / 'config.json'} exists: pass --overwrite true or another folder.")
    check_writable(output)
    pairs, findings = pair_cases(images, labels, patient_regex)
    meaning = read_labels(classes, anatomy, pairs)
    cases, found = measure(pairs, meaning)
    findings = [*findings, *found]
    for finding in findings:
        print(f"left out: {finding.sentence}")
    if findings and strict:
        raise InputError(f"--strict: {len(findings)} findings (listed above); nothing was written.")
    for lesion_class in meaning.names:
        if not any(case.has(lesion_class) for case in cases):
            raise InputError(f"no case has a lesion of class {lesion_class!r} (label {meaning.classes[lesion_class]}).")

    fingerprint = {"name": name or output.resolve().name, **summarise(cases, meaning)}
    fingerprint["findings"] = [finding.sentence for finding in findings]
    print_fingerprint(fingerprint)
    kind = propose_modality(cases) if modality == "auto" else Proposal(modality, "as you say")
    base, why = choose_base(kind.value, meaning.classes, meaning.anatomy)
    stack = propose_crop(cases, (1, 1, 1))[0].value is None
    network = network_keys(base, len(meaning.classes), stack)
    multiple = divisor(base, network)
    spacing, size = propose_crop(cases, multiple)
    proposals = {"modality": kind, "bundle": Proposal(base, why), "spacing_mm": spacing, "spatial_size": size}
    window = propose_window(cases, meaning.names) if kind.value == "CT" else None
    percentiles = headroom = Proposal(None, "")
    if window is not None:
        proposals["hu_window"] = window
    else:
        percentiles, headroom = propose_percentiles(cases)
        proposals |= {"intensity_percentiles": percentiles, "intensity_headroom": headroom}

    fitting = {case.case: lesions_that_fit(case, size.value, spacing.value) for case in cases}
    kept = [replace(case, lesions=[x for x in case.lesions if x.number in fitting[case.case]]) for case in cases]
    kept = [case for case in kept if case.lesions]
    for lesion_class in meaning.names:
        if not any(case.has(lesion_class) for case in kept):
            raise InputError(f"no lesion of class {lesion_class!r} fits a crop of {size.value} voxels.")
    split, val_patients = propose_split(kept, meaning.names)
    proposals["val_fraction"] = split
    held_out = set(val_patients) or held_out_by(split.value, kept)
    training = [case for case in kept if case.patient not in held_out]
    textures = {
        lesion_class: propose_textures(sum(lesion_class in x.volume_mm3 for case in training for x in case.lesions))
        for lesion_class in meaning.names
    }
    proposals |= {f"textures of {lesion_class}": proposal for lesion_class, proposal in textures.items()}
    proposals |= {"lesion_classes": Proposal(dict(meaning.classes), "as given" if classes else "every value found")}
    if meaning.anatomy:
        proposals["anatomy"] = Proposal(dict(meaning.anatomy), "as given; known, but never painted into")
    print("\nproposed settings")
    width = max(map(len, proposals))
    for key, (value, reason) in proposals.items():
        print(
            f"  {key:<{width}}  {json.dumps(value)} because {reason}"
            if key != "bundle"
            else f"  {key:<{width}}  {value} because {reason}"
        )
    print_misfits(cases, fitting, size.value, spacing.value)

    config = overlay(
        base,
        meaning.classes,
        meaning.anatomy,
        size.value,
        spacing.value,
        window and window.value,
        percentiles.value,
        headroom.value or 0.0,
        split.value,
        val_patients,
        network,
    )
    fingerprint["proposals"] = {key: proposal._asdict() for key, proposal in proposals.items()}
    write_json(output / "fingerprint.json", fingerprint)
    steps = [1, 1, float(fingerprint["spacing_mm"]["z"]["50"])] if spacing.value is None else spacing.value
    if spacing.value is None:
        steps[:2] = (float(fingerprint["spacing_mm"][axis]["50"]) for axis in "xy")
    size_mm = [n * step for n, step in zip(size.value, steps, strict=True)]
    write_atomically(
        output / "fingerprint.png",
        lambda path: save_fingerprint(cases, meaning.names, path, size_mm, window and window.value),
    )
    write_json(output / "datalist.json", datalist(pairs, cases, fitting, output))
    print()
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "config.json"
        draft.write_text(json.dumps(config))
        names = {lesion_class: list(proposal.value) for lesion_class, proposal in textures.items()}
        presets = output / "texture_presets.json"
        fit_presets(str(output), str(presets), names, bundle=base, overwrite=True, config=[str(draft)])
    config = with_textures(config, json.loads(presets.read_text()), base)
    write_json(output / "config.json", config)
    lesions = sum(len(case.lesions) for case in training)
    commands = next_commands(base, output, kept, size.value, spacing.value, multiple, lesions)
    if findings:
        print(f"\n{len(findings)} findings, listed above; {len(cases)} of {len(pairs)} pairs are used")
        sys.exit(INCOMPLETE)
    return {"base": base, "config": config, "findings": [], "commands": commands}


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
    names = {}
    for part in str(given).split(","):
        name, _, value = part.strip().partition("=")
        if not name or not value.strip().isdigit() or name in names:
            raise InputError(f"--{option} must be like tumour=1,cyst=2, got {given!r}.")
        names[name.strip()] = int(value)
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


def held_out_by(fraction: float, cases: Sequence[CaseMeasures]) -> set[str]:
    """The patients that a share holds out."""
    entries = [{"patient": case.patient} for case in cases]
    return {entry["patient"] for entry in split_by_patient(entries, fraction, "validation")}


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


def print_misfits(
    cases: Sequence[CaseMeasures],
    fitting: Mapping[str, list[int]],
    size: Sequence[int],
    spacing_mm: Sequence[float] | None,
) -> None:
    """Lists the lesions that are too large for the crop."""
    for case in cases:
        for lesion in case.lesions:
            if lesion.number not in fitting[case.case]:
                extent = " x ".join(f"{v:.0f}" for v in lesion.extent_mm)
                print(
                    f"  lesion {lesion.number} of case {case.case} ({extent} mm) does not fit the crop: not learnt from"
                )


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=2) + "\n"))
