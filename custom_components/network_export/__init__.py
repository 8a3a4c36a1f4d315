"""A bundle's network as a file of its own: TorchScript, ONNX or PyTorch's exported program."""

from .comparison import Comparison, compare
from .exported_network import ExportedNetwork
from .formats import FORMATS, Format, format_of
from .interface import describe_network, example_inputs, other_size

__all__ = [
    "FORMATS",
    "Comparison",
    "ExportedNetwork",
    "Format",
    "compare",
    "describe_network",
    "example_inputs",
    "format_of",
    "other_size",
]
