"""The ``lefusion`` command: ``lefusion --help`` lists what it can do, ``lefusion COMMAND --help`` how."""

from __future__ import annotations

import sys

import fire

from custom_components.errors import find_input_error

from .benchmark import benchmark
from .demo import demo
from .evaluate_texture import evaluate_texture
from .fit_presets import fit_presets
from .run import generate, run

COMMANDS = {
    "benchmark": benchmark,
    "demo": demo,
    "evaluate_texture": evaluate_texture,
    "fit_presets": fit_presets,
    "generate": generate,
    "run": run,
}


def main() -> None:
    """Runs one command; a problem with the input becomes one sentence and exit code 2."""
    try:
        fire.Fire(COMMANDS, name="lefusion")
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
