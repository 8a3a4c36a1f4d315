"""File names for cases that may be called anything."""

from __future__ import annotations

import hashlib
import re

__all__ = ["ALPHANUMERIC", "ANY_SYSTEM", "PORTABLE", "file_name"]

# What a name may not hold: where any of the usual file systems must take it, where shells and other programs must as
# well, and where only letters and digits are allowed.
ANY_SYSTEM = r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]'
PORTABLE = r"[^A-Za-z0-9_-]"
ALPHANUMERIC = r"[^A-Za-z0-9]"

DIGITS = 10  # of the hash; two names of a million cases then share one with a chance below 1 in 2


def file_name(case: str, forbidden: str = ANY_SYSTEM, mark: str = "_", longest: int = 150) -> str:
    """A case's name as the stem of a file name; different cases have different ones.

    A name that is valid stays as it is. In any other, what is forbidden is left out, the rest is cut, and a hash of
    the whole name follows after ``mark``; names that look as if that had been done to them get one as well.

    Args:
        case: any name.
        forbidden: regular expression of the characters that may not be in it.
        mark: stands before the hash; of allowed characters.
        longest: length in bytes; leaves room for endings and for what a temporary name begins with.
    """
    kept = re.sub(forbidden, "", case).lstrip(".")
    if case and kept == case and len(case.encode()) <= longest and not re.search(rf"{mark}[0-9a-f]{{{DIGITS}}}$", case):
        return case
    digest = hashlib.sha256(case.encode(errors="surrogatepass")).hexdigest()[:DIGITS]
    cut = kept.encode()[: longest - len(mark) - DIGITS].decode(errors="ignore")
    return f"{cut}{mark}{digest}"
