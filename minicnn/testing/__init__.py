"""Checks of operations, for this library's own and for yours.

`gradcheck` compares one gradient with differences of function values. `check_op` runs every check
that follows from the declaration of an operation, an `OpSpec`; `surviving_faults` shows that these
checks would notice if the operation were broken.

>>> from minicnn import functional as F
>>> case = Case("plain", lambda rng: (distinct((2, 3), rng),))
>>> spec = OpSpec("relu", F.relu, [case], oracle=lambda x: [[max(v, 0) for v in r] for r in x])
>>> check_op(spec)
>>> surviving_faults(spec)
[]
"""

from minicnn.testing.checks import check_case, check_op
from minicnn.testing.faults import (
    broken_attribute,
    broken_function,
    broken_kernel,
    planted_faults,
    surviving_faults,
)
from minicnn.testing.general_faults import Tampered, tampered
from minicnn.testing.gradcheck import GradientError, gradcheck, gradcheck_module
from minicnn.testing.spec import Case, Fault, OpSpec
from minicnn.testing.tolerance import CheckError, assert_close, distinct, tolerance

__all__ = [
    "Case",
    "CheckError",
    "Fault",
    "GradientError",
    "OpSpec",
    "Tampered",
    "assert_close",
    "broken_attribute",
    "broken_function",
    "broken_kernel",
    "check_case",
    "check_op",
    "distinct",
    "gradcheck",
    "gradcheck_module",
    "planted_faults",
    "surviving_faults",
    "tampered",
    "tolerance",
]
