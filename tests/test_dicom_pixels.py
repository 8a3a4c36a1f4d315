"""Pixels of DICOM slices that cannot be replaced."""

from __future__ import annotations

import pydicom
import pytest
from dicom_series import write_series
from pydicom.uid import JPEGLosslessSV1

from custom_components.dicom_export.pixels import StoredPixels
from custom_components.errors import InputError


def test_pixels_that_cannot_be_read_are_one_sentence(tmp_path):
    path = write_series(tmp_path / "a", positions=range(1)) / "900.dcm"
    for changes, words in (
        ({"NumberOfFrames": 3}, "holds several frames"),
        ({"SamplesPerPixel": 3}, "is in colour"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "lookup table"),
        ({"BitsStored": 12, "HighBit": 15}, "12 of 16 bits"),
        ({"Rows": 400}, "holds fewer pixels"),
    ):
        item = pydicom.dcmread(path)
        for keyword, value in changes.items():
            setattr(item, keyword, value)
        with pytest.raises(InputError, match=rf"slice s\.dcm .*{words}"):
            StoredPixels(item, "s.dcm")
    item = pydicom.dcmread(path)
    item.PixelData = pydicom.encaps.encapsulate([b"no JPEG at all "])
    item.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    with pytest.raises(InputError, match=r"slice s\.dcm is compressed \(JPEG Lossless.*cannot be decompressed"):
        StoredPixels(item, "s.dcm")
