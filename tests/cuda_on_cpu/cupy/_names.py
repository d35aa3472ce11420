"""Which of NumPy's names CuPy 14.2 has; a name that is not listed is missing there or not needed."""

from __future__ import annotations

# The same objects as in NumPy: dtypes and constants.
SHARED = """
bool bool_ broadcast_shapes byte cdouble complex128 complex64 complexfloating csingle double
dtype e euler_gamma finfo float16 float32 float64 floating generic half iinfo index_exp
inexact inf int16 int32 int64 int8 int_ intc integer intp isdtype issubdtype long longlong nan
ndindex newaxis number pi printoptions promote_types s_ short signedinteger single ubyte uint
uint16 uint32 uint64 uint8 uintc uintp ulong ulonglong unsignedinteger ushort
""".split()

UFUNCS = """
abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh
atan atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not
bitwise_or bitwise_right_shift bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad
degrees divide divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod
frexp gcd greater greater_equal heaviside hypot invert isfinite isinf isnan lcm ldexp
left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not
logical_or logical_xor maximum minimum mod modf multiply negative nextafter not_equal positive
pow power rad2deg radians reciprocal remainder right_shift rint sign signbit sin sinh sqrt
square subtract tan tanh true_divide trunc
""".split()

FUNCTIONS = """
all allclose amax amin angle any append argmax argmin argpartition argsort argwhere around
array_equal array_equiv array_split atleast_1d atleast_2d atleast_3d average bincount
broadcast_arrays broadcast_to choose clip column_stack compress concat concatenate
count_nonzero cross cumprod cumsum cumulative_prod cumulative_sum delete diag diag_indices
diag_indices_from diagflat diagonal diff digitize dot dsplit dstack ediff1d einsum expand_dims
extract fix flatnonzero flip fliplr flipud gradient histogram histogram2d histogramdd hsplit
hstack i0 imag indices inner interp intersect1d isclose iscomplex isin isneginf isposinf
isreal ix_ kron lexsort mask_indices matmul matrix_transpose max mean median meshgrid min
moveaxis nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin
nanprod nanstd nansum nanvar nonzero outer packbits pad partition percentile permute_dims prod
ptp quantile ravel ravel_multi_index real repeat reshape roll rollaxis rot90 round row_stack
searchsorted setdiff1d setxor1d sinc sort sort_complex split squeeze stack std sum swapaxes
take take_along_axis tensordot tile trace transpose trapezoid tri tril tril_indices
tril_indices_from triu triu_indices triu_indices_from union1d unique unique_all unique_counts
unique_inverse unique_values unpackbits unravel_index var vdot vsplit vstack where
""".split()
