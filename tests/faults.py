"""Lists of faulty runs: how each is made, and what its error has to tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fault = Callable[[Path], dict[str, Any]]


def registrar(faults: list[Any]) -> Callable[..., Callable[[Fault], Fault]]:
    """A decorator that adds to ``faults`` what makes the overrides of a faulty run in a folder.

    It is called with what the error has to tell; each entry is a test parameter, (make, told), named like its function.
    """

    def fault(*told: str) -> Callable[[Fault], Fault]:
        def register(make: Fault) -> Fault:
            faults.append(pytest.param(make, told, id=make.__name__))
            return make

        return register

    return fault
