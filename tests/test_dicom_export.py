"""Synthetic cases as DICOM: nothing but the lesions changes, and everything says that it is synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import ORIENTATIONS, UNUSED, paint_set, write_series
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from custom_components.dicom_export import export_case, find_source
from custom_components.errors import InputError
from custom_components.files import file_hash
from custom_components.synthesis.records import read_manifest, write_manifest
from custom_components.volumes import read_scan


def export(root: Path, source: Path, folder: Path) -> list[pydicom.Dataset]:
    """Exports the only case of a set; the slices in the order of their files."""
    (record,) = read_manifest(root)
    export_case(root, record, source, folder, "2026-01-02T03:04:05+00:00")
    return [pydicom.dcmread(path) for path in sorted((folder / "image").iterdir())]


def volume(root: Path, role: str) -> nib.Nifti1Image:
    return nib.load(root / read_manifest(root)[0]["files"][role])


def by_uid(folder: Path) -> dict[str, pydicom.Dataset]:
    return {item.SOPInstanceUID: item for item in map(pydicom.dcmread, folder.iterdir())}


def words(item: pydicom.Dataset) -> np.ndarray:
    order = "<" if item.file_meta.TransferSyntaxUID.is_little_endian else ">"
    return np.frombuffer(item.PixelData, f"{order}u2").reshape(item.Rows, item.Columns)


def check_export(root: Path, source: Path, folder: Path) -> list[pydicom.Dataset]:
    """The series reads as the set's image, voxel for voxel; outside the lesions the bits are those of the source."""
    slices, before = export(root, source, folder), by_uid(source)
    image, instances = volume(root, "image"), np.asarray(volume(root, "instances").dataobj)
    scan = read_scan(folder / "image")
    np.testing.assert_array_equal(scan.stored, np.asarray(image.dataobj))
    np.testing.assert_allclose(scan.affine, image.affine, atol=1e-5)
    assert len(slices) == len(before) == instances.shape[2]
    for k, item in enumerate(slices):
        old = before[item.SourceImageSequence[0].ReferencedSOPInstanceUID]
        lesion = instances[:, :, k].T > 0
        assert np.array_equal(words(item)[~lesion], words(old)[~lesion])
        assert not lesion.any() or (words(item) != words(old))[lesion].mean() > 0.9
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept"):
            assert item.get(keyword) == old.get(keyword)
    return slices


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_series_and_segmentation_lie_where_the_set_says_in_every_orientation(tmp_path, orientation):
    source = write_series(tmp_path / "in" / "a", orientation)
    root = paint_set(tmp_path / "set", [source])
    slices = check_export(root, source, tmp_path / "out")
    segmentation = highdicom.seg.segread(tmp_path / "out" / "segmentation.dcm")
    expected = np.asarray(volume(root, "instances").dataobj)
    masks = segmentation.get_pixels_by_source_instance(
        [item.SOPInstanceUID for item in slices], assert_missing_frames_are_empty=True, ignore_spatial_locations=False
    )
    assert masks.shape[-1] == 2
    for number in (1, 2):
        np.testing.assert_array_equal(masks[..., number - 1].transpose(2, 1, 0), expected == number)
    # Independently of any reference: by the segmentation's own positions in the patient.
    own = segmentation.get_volume(combine_segments=True)
    index = np.argwhere(own.array > 0)
    places = (np.diag([-1, -1, 1, 1]) @ own.affine @ np.c_[index, np.ones(len(index))].T).T
    wanted = np.argwhere(expected > 0)
    wanted = (volume(root, "instances").affine @ np.c_[wanted, np.ones(len(wanted))].T).T
    key = lambda points: sorted(map(tuple, np.round(points[:, :3], 3) + 0.0))  # noqa: E731
    np.testing.assert_allclose(key(places), key(wanted), atol=2e-3)


@pytest.mark.parametrize(
    "storage",
    [
        {"signed": True, "intercept": 0},
        {"signed": True, "intercept": -1024},
        {"signed": True, "bits": 12, "intercept": 0},
        {"bits": 12},
        {"bits": 12, "slope": 2.0, "intercept": -1000},
        {"modality": "MR", "intercept": 0, "bits": 12},
        {"SmallestImagePixelValue": 0, "LargestImagePixelValue": 2499},
        {"syntax": ImplicitVRLittleEndian},
        {"syntax": ExplicitVRBigEndian},
        {"syntax": DeflatedExplicitVRLittleEndian},
        {"ending": ""},
    ],
    ids=str,
)
def test_lesions_are_stored_as_the_scanner_stores(tmp_path, storage):
    source = write_series(tmp_path / "in" / "a", **storage)
    values = (400, 700) if storage.get("modality") == "MR" else (40, -300)
    root = paint_set(tmp_path / "set", [source], values)
    if storage.get("slope") == 2.0:  # odd numbers cannot be stored: the closest even ones are
        slices = export(root, source, tmp_path / "out")
        scan, image = read_scan(tmp_path / "out" / "image"), np.asarray(volume(root, "image").dataobj)
        assert np.abs(scan.stored - image).max() == 1
        outside = np.asarray(volume(root, "instances").dataobj) == 0
        assert np.array_equal(scan.stored[outside], image[outside])
    else:
        slices = check_export(root, source, tmp_path / "out")
    first = next(iter(by_uid(source).values()))
    for item in slices:
        assert item.file_meta.TransferSyntaxUID == first.file_meta.TransferSyntaxUID
        assert (item.BitsStored, item.PixelRepresentation) == (first.BitsStored, first.PixelRepresentation)
        if storage.get("signed"):  # the sign fills the bits beyond those stored
            numbers = words(item).astype("<u2").view("<i2") + storage["intercept"]
            k = sorted(slices, key=lambda s: s.ImagePositionPatient[2]).index(item)
            np.testing.assert_array_equal(numbers, np.asarray(volume(root, "image").dataobj)[:, :, k].T)
        if storage.get("bits") == 12 and not storage.get("signed"):
            assert (words(item) & UNUSED == UNUSED).all()
        if "LargestImagePixelValue" in storage and item.InstanceNumber in (3, 4, 6, 7, 8):
            assert (item.SmallestImagePixelValue, item.LargestImagePixelValue) == (words(item).min(), words(item).max())


def test_values_beyond_what_can_be_stored_are_counted_and_clipped(tmp_path):
    source = write_series(tmp_path / "in" / "a", bits=12)
    root = paint_set(tmp_path / "set", [source], (-1100, 3200))
    exported = export_case(root, read_manifest(root)[0], source, tmp_path / "out")
    image = np.asarray(volume(root, "image").dataobj)
    assert exported.rounded == ((image < -1024) | (image > 3071)).sum() > 0
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "image").stored, np.clip(image, -1024, 3071))


def test_compressed_slices_are_decompressed(tmp_path):
    plain = write_series(tmp_path / "in" / "plain")
    source = write_series(tmp_path / "in" / "a", syntax=RLELossless)
    root = paint_set(tmp_path / "set", [source])
    slices = export(root, source, tmp_path / "out")
    assert {item.file_meta.TransferSyntaxUID for item in slices} == {ExplicitVRLittleEndian}
    stored = read_scan(tmp_path / "out" / "image").stored
    np.testing.assert_array_equal(stored, np.asarray(volume(root, "image").dataobj))
    outside = np.asarray(volume(root, "instances").dataobj) == 0
    assert np.array_equal(stored[outside], read_scan(plain).stored[outside])


def test_every_slice_says_that_it_is_synthetic_and_where_it_comes_from(tmp_path):
    source = write_series(tmp_path / "in" / "a", SoftwareVersions="VB40", IconImageSequence=[pydicom.Dataset()])
    root = paint_set(tmp_path / "set", [source])
    slices, before = export(root, source, tmp_path / "out"), by_uid(source)
    sidecar = root / read_manifest(root)[0]["files"]["sidecar"]
    assert len({item.SeriesInstanceUID for item in slices}) == 1
    assert len({item.SOPInstanceUID for item in slices} | set(before)) == 2 * len(slices)
    for item in slices:
        reference = item.SourceImageSequence[0]
        old = before[reference.ReferencedSOPInstanceUID]
        assert reference.ReferencedSOPClassUID == CTImageStorage
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert item.InstanceNumber == old.InstanceNumber
        assert item.SeriesInstanceUID != old.SeriesInstanceUID
        assert item.file_meta.MediaStorageSOPInstanceUID == item.SOPInstanceUID
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "SOPClassUID"):
            assert item[keyword].value == old[keyword].value
        assert item[0x0008001C].value == "YES"
        assert item[0x00189004].value == "RESEARCH"
        assert item.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert item.SoftwareVersions == ["VB40", "LeFusion-MONAI 0.1.0"]
        assert (
            "2 synthetic lesion(s) painted by LeFusion-MONAI 0.1.0, lefusion_lidc 0.1.0" in item.DerivationDescription
        )
        assert file_hash(sidecar) in item.DerivationDescription
        assert "Research only" in item.DerivationDescription
        equipment = item.ContributingEquipmentSequence[-1]
        assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("LeFusion-MONAI", "0.1.0")
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
        assert item.SeriesDescription == "SYNTHETIC lesions: Thorax 2.5"
        assert "IconImageSequence" not in item


def test_segments_are_coded_numbered_and_automatic(tmp_path):
    source = write_series(tmp_path / "in" / "a")
    root = paint_set(tmp_path / "set", [source])
    slices = export(root, source, tmp_path / "out")
    segmentation = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    assert segmentation.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (segmentation.SyntheticData, segmentation.Modality) == ("YES", "SEG")
    assert segmentation.StudyInstanceUID == slices[0].StudyInstanceUID
    assert segmentation.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert (segmentation.PatientID, segmentation.PatientSex) == ("P1", "F")
    for number, segment in enumerate(segmentation.SegmentSequence, start=1):
        assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == (f"lesion {number}", "AUTOMATIC")
        assert segment.SegmentAlgorithmName == "LeFusion-MONAI"
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("52988006", "SCT", "Lesion")


def test_same_case_gives_the_same_files(tmp_path):
    source = write_series(tmp_path / "in" / "a")
    root = paint_set(tmp_path / "set", [source])
    contents = []
    for name in ("one", "two"):
        export(root, source, tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({"shear": (0, 0.4, 0)}, "one regular grid .tilted gantry"),
        ({"positions": (0, 1, 2, 3, 5, 6, 7, 8)}, "one regular grid .*missing"),
        ({"positions": (0, 1, 2, 3, 4.4, 5, 6, 7)}, "one regular grid"),
    ],
)
def test_irregular_series_are_refused_in_one_sentence(tmp_path, series, words):
    source = write_series(tmp_path / "in" / "a", **series)
    root = paint_set(tmp_path / "set", [source])
    with pytest.raises(InputError, match=words):
        export(root, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_source_and_changed_background_are_refused(tmp_path):
    source = write_series(tmp_path / "in" / "a")
    root = paint_set(tmp_path / "set", [source])
    path = root / "images" / "a_s1.nii.gz"
    image = nib.load(path)
    values = np.array(image.dataobj)
    values[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(values, image.affine), path)
    with pytest.raises(InputError, match=r"a_s1\.nii\.gz differs from its source outside the lesions"):
        export(root, source, tmp_path / "out")
    (source / "900.dcm").unlink()
    with pytest.raises(InputError, match="has changed since"):
        export(root, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_generated_background_is_not_exported(tmp_path):
    source = write_series(tmp_path / "in" / "a")
    root = paint_set(tmp_path / "set", [source])
    write_manifest(root, [{**record, "background": "generated"} for record in read_manifest(root)])
    with pytest.raises(InputError, match="its background is generated"):
        export(root, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_source_is_found_in_the_input_or_is_the_input(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    record = {"case": "a_s1", "source": "a"}
    assert find_source(record, tmp_path / "in") == tmp_path / "in" / "a"
    assert find_source(record, tmp_path / "in" / "a") == tmp_path / "in" / "a"
    (tmp_path / "in" / "datalist.json").write_text("[]")
    assert find_source(record, tmp_path / "in" / "datalist.json") == tmp_path / "in" / "a"
    with pytest.raises(InputError, match=r"case a_s1: its source a is not in .*--source"):
        find_source(record, tmp_path)


def test_header_of_a_source_that_lacks_patient_and_study_still_gives_a_segmentation(tmp_path):
    tags = dict.fromkeys(("PatientID", "PatientName", "PatientSex", "StudyDate", "StudyTime", "SliceThickness"))
    source = write_series(tmp_path / "in" / "a", **tags)
    root = paint_set(tmp_path / "set", [source])
    export(root, source, tmp_path / "out")
    assert highdicom.seg.segread(tmp_path / "out" / "segmentation.dcm").number_of_segments == 2


def test_sidecar_tells_bundle_and_version(tmp_path):
    source = write_series(tmp_path / "in" / "a")
    root = paint_set(tmp_path / "set", [source])
    path = root / "sidecars" / "a_s1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundle": None}))
    equipment = export(root, source, tmp_path / "out")[0].ContributingEquipmentSequence[0]
    assert equipment.ManufacturerModelName == "LeFusion-MONAI"
