"""What a network costs: floating-point operations and memory."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import psutil
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(network: nn.Module, *inputs: Tensor, context: Tensor) -> int:
    """Operations of one forward, a multiply-add being 2. On the meta device: nothing is computed."""
    network = copy.deepcopy(network).to("meta")
    # Of the attention kernels, only the plain one is in PyTorch's table of operations for every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(*(tensor.to("meta") for tensor in inputs), context=context.to("meta"))
    return counter.get_total_flops()


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in 10^6 bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    status = Path("/proc/self/status")
    # On Linux not by ru_maxrss, which begins at the peak of the process that started this one.
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e6
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
