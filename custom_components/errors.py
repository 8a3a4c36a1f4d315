"""Errors that a user can act on, and how they reach the terminal."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["InputError", "as_flag", "find_input_error", "first_line", "install_excepthook"]


class InputError(ValueError):
    """A problem with what the user gave, told in one sentence that names the file, key or value at fault."""


def as_flag(value: object, name: str) -> bool:
    """A yes-or-no setting; the command line passes ``--resume false`` on as the word "false", which is not False.

    Raises:
        InputError: for anything but True, False, "true" and "false".
    """
    flag = {"true": True, "false": False}.get(str(value).lower())
    if flag is None:
        raise InputError(f"{name} must be true or false, got {value!r}.")
    return flag


def find_input_error(error: BaseException | None) -> InputError | None:
    """The :class:`InputError` behind an exception, or None.

    MONAI wraps what its transforms and config components raise in RuntimeErrors; the cause stays reachable.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _print_input_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = find_input_error(error)
    if cause is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {cause}", file=sys.stderr)


def install_excepthook() -> None:
    """Show an uncaught :class:`InputError` as its one sentence instead of a traceback.

    The bundles call it when run from the command line; it leaves every other exception alone.
    """
    sys.excepthook = _print_input_error
