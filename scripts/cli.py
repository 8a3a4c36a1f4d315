"""The ``lefusion`` command: ``lefusion --help`` lists what it can do, ``lefusion COMMAND --help`` how."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Sequence

import fire

from custom_components.errors import InputError, find_input_error

from .benchmark import benchmark
from .copy_lesions import copy_lesions
from .demo import demo
from .evaluate_contrast import evaluate_contrast
from .evaluate_texture import evaluate_texture
from .fit_presets import fit_presets
from .import_weights import import_weights
from .run import generate, run
from .write_phantoms import write_phantoms

COMMANDS = {
    "benchmark": benchmark,
    "copy_lesions": copy_lesions,
    "demo": demo,
    "evaluate_contrast": evaluate_contrast,
    "evaluate_texture": evaluate_texture,
    "fit_presets": fit_presets,
    "generate": generate,
    "import_weights": import_weights,
    "run": run,
    "write_phantoms": write_phantoms,
}


def check_flags(arguments: Sequence[str]) -> None:
    """fire runs a command first and rejects a flag it does not know afterwards; this rejects it before.

    Raises:
        InputError: naming the flag, and the one that was probably meant.
    """
    if not arguments or arguments[0] not in COMMANDS:
        return
    known = inspect.signature(COMMANDS[arguments[0]]).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for argument in arguments[1:]:
        flag = argument.split("=")[0].lstrip("-").replace("-", "_")
        if argument.startswith("--") and len(argument) > 2 and flag not in (*known, "help"):
            close = difflib.get_close_matches(flag, known, n=1)
            raise InputError(
                f"{arguments[0]} has no option --{flag}" + (f"; did you mean --{close[0]}?" if close else ".")
            )


def main() -> None:
    """Runs one command, its name written with dashes or underscores.

    A problem with the input becomes one sentence and exit code 2.
    """
    arguments = sys.argv[1:]
    if arguments and arguments[0].replace("-", "_") in COMMANDS:
        arguments[0] = arguments[0].replace("-", "_")
    try:
        check_flags(arguments)
        fire.Fire(COMMANDS, arguments, "lefusion", lambda result: None if result is not COMMANDS else result)
    except Exception as error:
        cause = find_input_error(error)
        if cause is None:
            raise
        print(f"error: {cause}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command with --resume true goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
