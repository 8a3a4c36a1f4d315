"""Cases of a synthetic data set as DICOM: a new series beside the scan's own, and its lesions as a segmentation.

Needs pydicom and highdicom, the optional dependencies ``dicom``.
"""

from .case import ExportedCase, export_case, find_source

__all__ = ["ExportedCase", "export_case", "find_source"]
