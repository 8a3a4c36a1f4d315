"""Shared components of the LeFusion bundles, one concept a module.

Axis convention, used everywhere: tensors are ``(N, C, X, Y, Z)`` with the spatial axes in the order of the NIfTI
array after reorientation to RAS+ (X to the patient's right-to-left "R" direction, Z towards the head), so the
through-plane axis is the last one. Images inside a network lie in [-1, 1].
"""

import logging
import warnings

__version__ = "0.1.0"

# MONAI's LoadImage makes all readers it knows, whatever is read, and one of them warns that a GPU codec is missing.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin")
