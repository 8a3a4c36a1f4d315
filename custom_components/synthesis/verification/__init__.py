"""Is a synthetic data set still what its records say it is?"""

from .findings import Finding
from .replay import check_replay
from .verify import verify_set

__all__ = ["Finding", "check_replay", "verify_set"]
