"""e**x and the larger of two numbers, as instructions that a compiler can turn into vectors.

A loop that calls the C library for each e**x runs one number at a time: LLVM has no vector form of
the call. Written out, e**x is a dozen additions and multiplications, and LLVM vectorises the loop
around them. With n = round(x / log 2) and r = x - n * log 2,

    e**x = 2**n * e**r,    |r| <= log(2) / 2 = 0.35,

where the Taylor series of e**r is exact to the last bit or two after 7 terms in float32 and 13 in
float64. n * log 2 is subtracted in two parts, of which the first has few bits and its product no
rounding error (Cody & Waite 1980). 2**n is n plus a constant, shifted to the exponent's place.

Below the smallest normal number the result is 0; at n > 127 (1023 in float64) it is infinity.

The sums are written as LLVM's ``fmuladd``, which is one rounding where the processor has such an
instruction: separate sums would get the fast-math flags of the kernel, and with them LLVM may join
the two parts of log 2 again.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_intrinsic: Any = intrinsic  # its declared type would hide the signatures of what it makes


@_intrinsic
def exponential(typing, x):
    """e**x."""

    def generate(context, builder, signature, arguments):
        (x,) = arguments
        kind = _Kind(builder, signature.args[0].bitwidth)
        is_inside = builder.and_(
            builder.fcmp_ordered(">=", x, kind.number(kind.least)),
            builder.fcmp_ordered("<=", x, kind.number(kind.most)),
        )
        n = kind.call("rint", builder.fmul(x, kind.number(1 / math.log(2))))
        n = builder.select(is_inside, n, kind.number(0.0))  # nor is NaN a whole number
        high, low = kind.parts_of_log2()
        r = kind.multiply_add(n, kind.number(-low), kind.multiply_add(n, kind.number(-high), x))
        total = kind.number(1 / math.factorial(kind.terms))
        for k in reversed(range(kind.terms)):
            total = kind.multiply_add(r, total, kind.number(1 / math.factorial(k)))
        y = builder.fmul(total, kind.power_of_two(n))
        is_below = builder.fcmp_ordered("<", x, kind.number(kind.least))
        y = builder.select(is_below, kind.number(0.0), y)
        is_above = builder.fcmp_ordered(">", x, kind.number(kind.most))
        return builder.select(is_above, kind.number(math.inf), y)

    return x(x), generate


@_intrinsic
def larger(typing, a, b):
    """The larger of two numbers, NaN if one is NaN; unlike a comparison, LLVM vectorises it."""

    def generate(context, builder, signature, arguments):
        kind = _Kind(builder, signature.args[0].bitwidth)
        return kind.call("maximum", *arguments)

    return a(a, a), generate


class _Kind:
    """The instructions and the format of float32 or float64."""

    def __init__(self, builder: ir.IRBuilder, bits: int) -> None:
        single = bits == 32
        self.builder, self.bits = builder, bits
        self.type = ir.FloatType() if single else ir.DoubleType()
        self.mantissa, self.bias, self.terms = (23, 127, 7) if single else (52, 1023, 13)
        self.least = (self.bias - 2) * -math.log(2)
        self.most = (self.bias + 0.5) * math.log(2)

    def number(self, value: float) -> ir.Constant:
        return ir.Constant(self.type, float(np.float32(value)) if self.bits == 32 else value)

    def call(self, name: str, *arguments: ir.Value) -> ir.Value:
        """LLVM's function ``name`` of numbers of this kind."""
        form = ir.FunctionType(self.type, [self.type] * len(arguments))
        name = f"llvm.{name}.f{self.bits}"
        function = cgutils.get_or_insert_function(self.builder.module, form, name)
        return self.builder.call(function, arguments)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.call("fmuladd", a, b, c)

    def parts_of_log2(self) -> tuple[float, float]:
        """log 2 as a number of few bits, whose products with n are exact, and the rest."""
        scale = 2.0 ** (self.mantissa - 11)
        high = math.floor(math.log(2) * scale) / scale
        return high, float(Decimal(2).ln() - Decimal(high))

    def power_of_two(self, n: ir.Value) -> ir.Value:
        """2**n for a whole number n."""
        short, whole = ir.IntType(32), ir.IntType(self.bits)
        number = self.builder.fptosi(n, short)
        if self.bits > 32:
            number = self.builder.sext(number, whole)
        exponent = self.builder.add(number, ir.Constant(whole, self.bias))
        bits = self.builder.shl(exponent, ir.Constant(whole, self.mantissa))
        return self.builder.bitcast(bits, self.type)
