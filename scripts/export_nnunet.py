"""A mixture of real and synthetic lists as a raw data set of nnU-Net v2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.case_lists import read_lists, warn_of_shared
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable
from custom_components.labels import LesionLabels
from custom_components.nnunet_export import NNUNetExport


def export_nnunet(
    destination: str,
    lists: Any,
    test_lists: Any = None,
    dataset_id: int = 501,
    name: str = "LesionMix",
    classes: Any = "lesion=1",
    modality: str = "CT",
    overwrite: bool = False,
) -> None:
    """Write the lists that a segmenter is trained on as an nnU-Net v2 data set, so that nnU-Net can train on them.

    DESTINATION/DatasetNNN_Name gets imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json, whose
    folds keep patients together and validate on real cases only.

    Args:
        destination: folder to write to, the later nnUNet_raw; made where absent.
        lists: data sets' folders or datalists, each perhaps with #section and *repeats: "[real.json#training,set*2]".
        test_lists: likewise, for imagesTs.
        dataset_id: number of the data set, 1 to 999.
        name: of the data set.
        classes: the lesion classes and their labels: lesion=1, or mi=3,pmo=4; every other label is background.
        modality: CT, or another name; nnU-Net normalises CT by its own rule.
        overwrite: replace the data set where it exists.
    """
    export = NNUNetExport(str(destination), LesionLabels(_classes(classes)), dataset_id, str(name), str(modality))
    check_writable(Path(str(destination)))
    if export.folder.exists() and not as_flag(overwrite, "overwrite"):
        raise InputError(f"{export.folder} exists; --overwrite true replaces it.")
    train = [case for cases in read_lists(lists, "lists") for case in cases]
    test = [] if test_lists is None else [case for cases in read_lists(test_lists, "test_lists") for case in cases]
    warn_of_shared(train, test, "lists", "test_lists")
    counts = export.write(train, test)
    real = counts["training"] - counts["synthetic"]
    print(
        f"{real} real and {counts['synthetic']} synthetic cases for training, {counts['test']} for the test"
        f" in {export.folder}"
    )
    if not counts["folds"]:
        print("fewer real patients than folds: no splits_final.json; train with fold all")
    print(_commands(export, dataset_id, bool(counts["folds"]), bool(test)))


def _classes(classes: Any) -> dict[str, int]:
    """``mi=3,pmo=4`` or a dictionary."""
    if isinstance(classes, Mapping):
        return {str(key): value for key, value in classes.items()}
    pairs = [part.partition("=") for part in str(classes).split(",") if part.strip()]
    for name, sign, value in pairs:
        if not (name.strip() and sign and value.strip().isdigit()):
            raise InputError(f"classes must be written name=label, separated by commas, got {classes!r}.")
    return {name.strip(): int(value) for name, _, value in pairs}


def _commands(export: NNUNetExport, number: int, folds: bool, test: bool) -> str:
    folder, values = export.folder, sorted(export.layout.label_values.values())
    raw = folder.parent.resolve()
    lines = [
        f"export nnUNet_raw={raw} nnUNet_preprocessed={raw}_preprocessed nnUNet_results={raw}_results",
        f"nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres --verify_dataset_integrity",
    ]
    if folds:
        lines.append(f"cp {folder.resolve()}/splits_final.json $nnUNet_preprocessed/{folder.name}/")
    fold = "0" if folds else "all"
    lines.append(f"nnUNetv2_train {number} 3d_fullres {fold}")
    if test:
        lines += [
            f"nnUNetv2_predict -d {number} -c 3d_fullres -f {fold} -i {folder.resolve()}/imagesTs -o PREDICTIONS",
            f"nnUNetv2_evaluate_simple {folder.resolve()}/labelsTs PREDICTIONS -l {' '.join(map(str, values))}",
        ]
    return "\n".join(lines)
