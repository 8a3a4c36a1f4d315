"""The ``lefusion`` command: ``lefusion --help`` lists what it can do, ``lefusion COMMAND --help`` how."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Sequence

import fire

from custom_components.errors import InputError, find_input_error

from .benchmark import benchmark
from .compare_sets import compare_sets
from .copy_lesions import copy_lesions
from .demo import demo
from .evaluate_contrast import evaluate_contrast
from .evaluate_diversity import evaluate_diversity
from .evaluate_histogram_response import evaluate_histogram_response
from .evaluate_masks import evaluate_masks
from .evaluate_recurrence import evaluate_recurrence
from .evaluate_texture import evaluate_texture
from .export_dicom import export_dicom
from .export_network import export_onnx, export_pt2, export_torchscript
from .export_nnunet import export_nnunet
from .federate import federate
from .fit_presets import fit_presets
from .fit_site_gaps import fit_site_gaps
from .fit_sphere_radii import fit_sphere_radii
from .fit_texture_levels import fit_texture_levels
from .gallery import gallery
from .import_weights import import_weights
from .prepare_emidec import prepare_emidec
from .prepare_folder import prepare_folder
from .prepare_lidc import prepare_lidc
from .prepare_lidc_masks import prepare_lidc_masks
from .prepare_regions import prepare_regions
from .reproduce import reproduce
from .run import draw_masks, generate, run
from .synthesize import synthesize
from .verify import verify
from .write_phantoms import write_phantoms
from .zoo import pack as zoo_pack
from .zoo import serve as zoo_serve
from .zoo import verify as zoo_verify
from .zoo_networks import check_networks

COMMANDS = {
    "benchmark": benchmark,
    "compare_sets": compare_sets,
    "copy_lesions": copy_lesions,
    "demo": demo,
    "draw_masks": draw_masks,
    "evaluate_contrast": evaluate_contrast,
    "evaluate_diversity": evaluate_diversity,
    "evaluate_histogram_response": evaluate_histogram_response,
    "evaluate_masks": evaluate_masks,
    "evaluate_recurrence": evaluate_recurrence,
    "evaluate_texture": evaluate_texture,
    "export": {
        "dicom": export_dicom,
        "nnunet": export_nnunet,
        "onnx": export_onnx,
        "pt2": export_pt2,
        "torchscript": export_torchscript,
    },
    "federate": federate,
    "fit_presets": fit_presets,
    "fit_site_gaps": fit_site_gaps,
    "fit_sphere_radii": fit_sphere_radii,
    "fit_texture_levels": fit_texture_levels,
    "gallery": gallery,
    "generate": generate,
    "import_weights": import_weights,
    "prepare": {
        "emidec": prepare_emidec,
        "folder": prepare_folder,
        "lidc": prepare_lidc,
        "lidc_masks": prepare_lidc_masks,
        "regions": prepare_regions,
    },
    "reproduce": reproduce,
    "run": run,
    "synthesize": synthesize,
    "verify": verify,
    "write_phantoms": write_phantoms,
    "zoo": {"check_networks": check_networks, "pack": zoo_pack, "serve": zoo_serve, "verify": zoo_verify},
}


def check_flags(arguments: Sequence[str]) -> None:
    """fire runs a command first and rejects a flag it does not know afterwards; this rejects it before.

    Raises:
        InputError: naming the flag, and the one that was probably meant, or the command that a group does not have.
    """
    command, words = COMMANDS, list(arguments)
    while isinstance(command, dict):
        name = words.pop(0).replace("-", "_") if words else ""
        if command is not COMMANDS and name.isidentifier() and name not in command:
            raise InputError(f"{name} is none of {', '.join(command)}.")
        command = command.get(name)
    if command is None:
        return
    known = inspect.signature(command).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for argument in words:
        flag = argument.split("=")[0].lstrip("-").replace("-", "_")
        if argument.startswith("--") and len(argument) > 2 and flag not in (*known, "help"):
            close = difflib.get_close_matches(flag, known, n=1)
            hint = f"; did you mean --{close[0]}?" if close else "."
            raise InputError(f"{command.__name__} has no option --{flag}{hint}")


def _list_commands(result: object) -> object:
    """What fire prints: the commands of a group where none was named, nothing that a command returns."""
    groups = [COMMANDS, *(command for command in COMMANDS.values() if isinstance(command, dict))]
    return result if any(result is group for group in groups) else None


def main() -> None:
    """Runs one command, its name written with dashes or underscores.

    A problem with the input becomes one sentence and exit code 2.
    """
    try:
        check_flags(sys.argv[1:])
        fire.Fire(COMMANDS, name="lefusion", serialize=_list_commands)
    except Exception as error:
        cause = find_input_error(error)
        if cause is None:
            raise
        print(f"error: {cause}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on (all but synthesize need --resume true for it)", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
