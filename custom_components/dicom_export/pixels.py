"""Stored pixels of a DICOM slice: read as they are, some of them replaced, all others left bit for bit."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ..errors import InputError, first_line

__all__ = ["StoredPixels"]


class StoredPixels:
    """The pixels of one slice of a grey-scale image. A compressed slice is decompressed, in the dataset too.

    Args:
        dataset: the slice, with its pixel data; :meth:`replace` changes it.
        name: the file, for messages.

    Raises:
        InputError: for pixels that cannot be decompressed, and for kinds of pixels that are not supported.
    """

    def __init__(self, dataset: pydicom.Dataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        meta = dataset.file_meta
        if "TransferSyntaxUID" not in meta:  # a file without preamble does not tell
            meta.TransferSyntaxUID = ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        if meta.TransferSyntaxUID.is_compressed:
            self._decompress()
        odd = self._unsupported()
        if odd:
            raise InputError(f"slice {name} cannot be exported: {odd}.")
        self.bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
        self.limits = (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if signed else (0, (1 << self.bits) - 1)
        self.slope = float(dataset.get("RescaleSlope", 1) or 1)
        self.intercept = float(dataset.get("RescaleIntercept", 0) or 0)
        order = "<" if meta.TransferSyntaxUID.is_little_endian else ">"
        kind = np.dtype(f"u{int(dataset.BitsAllocated) // 8}").newbyteorder(order)
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if len(dataset.PixelData) < rows * columns * kind.itemsize:
            raise InputError(f"slice {name} holds fewer pixels than its {rows} rows and {columns} columns.")
        self.words = np.frombuffer(dataset.PixelData, kind, rows * columns).reshape(rows, columns)

    def _decompress(self) -> None:
        syntax = self.dataset.file_meta.TransferSyntaxUID.name
        try:
            self.dataset.decompress(generate_instance_uid=False)
        except Exception as error:
            raise InputError(
                f"slice {self.name} is compressed ({syntax}) and cannot be decompressed: {first_line(error)}"
            ) from error

    def _unsupported(self) -> str | None:
        """What about the slice is not supported, None where all is."""
        dataset = self.dataset
        if "PixelData" not in dataset:
            return "it holds no whole-number pixels"
        if int(dataset.get("NumberOfFrames", 1) or 1) != 1:
            return "it holds several frames, only series of single slices are supported"
        if int(dataset.get("SamplesPerPixel", 1)) != 1:
            return "it is in colour"
        if "ModalityLUTSequence" in dataset:
            return "its values come from a lookup table"
        if int(dataset.BitsAllocated) not in (8, 16, 32) or int(dataset.HighBit) != int(dataset.BitsStored) - 1:
            return f"its pixels of {dataset.BitsStored} of {dataset.BitsAllocated} bits are packed in an unusual way"
        return None

    @property
    def stored(self) -> np.ndarray:
        """(rows, columns) int64, the stored numbers without the bits beyond ``BitsStored``."""
        values = self.words.astype(np.int64) & ((1 << self.bits) - 1)
        low = self.limits[0]
        return np.where(values > self.limits[1], values + 2 * low, values) if low < 0 else values

    @property
    def values(self) -> np.ndarray:
        """(rows, columns) float64 in the scan's units."""
        return self.stored * self.slope + self.intercept

    def replace(self, where: np.ndarray, values: np.ndarray) -> int:
        """Writes values in the scan's units into the dataset, rounded to what can be stored.

        Args:
            where: (rows, columns) bool, the pixels to replace.
            values: (rows, columns).

        Returns:
            How many values lay beyond what can be stored, and were stored as the closest number that can.
        """
        wanted = np.rint((np.asarray(values, dtype=np.float64)[where] - self.intercept) / self.slope)
        stored = np.clip(wanted, *self.limits).astype(np.int64)
        mask = (1 << self.bits) - 1
        words = self.words.copy()
        # Bits beyond those stored are the sign's where there is one; otherwise they may hold something else, and stay.
        unused = np.where(stored < 0, ~mask, 0) if self.limits[0] < 0 else self.words[where].astype(np.int64) & ~mask
        every_bit = (1 << 8 * words.itemsize) - 1
        words[where] = (((stored & mask) | unused) & every_bit).astype(words.dtype)
        rest = self.dataset.PixelData[words.nbytes :]
        self.dataset.PixelData = words.tobytes() + rest
        self.words = words
        for keyword, extreme in (("SmallestImagePixelValue", np.min), ("LargestImagePixelValue", np.max)):
            if keyword in self.dataset:
                self.dataset[keyword].value = int(extreme(self.stored))
        return int((wanted != stored).sum())
