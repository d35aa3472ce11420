// CUDA's arithmetic built-ins that the C library lacks or calls otherwise.
#pragma once

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

#define CUDA_ON_CPU_EXTREMES(type)                                 \
    inline type min(type a, type b) { return b < a ? b : a; }      \
    inline type max(type a, type b) { return a < b ? b : a; }
CUDA_ON_CPU_EXTREMES(int)
CUDA_ON_CPU_EXTREMES(unsigned)
CUDA_ON_CPU_EXTREMES(long)
CUDA_ON_CPU_EXTREMES(unsigned long)
CUDA_ON_CPU_EXTREMES(long long)
CUDA_ON_CPU_EXTREMES(unsigned long long)
#undef CUDA_ON_CPU_EXTREMES
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// Macros, because the C library keeps functions of its own under some of these names.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

template <class To, class From>
To cuda_on_cpu_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "a cast of bits keeps the size");
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}
inline int __float_as_int(float x) { return cuda_on_cpu_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return cuda_on_cpu_bits<unsigned>(x); }
inline float __int_as_float(int x) { return cuda_on_cpu_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return cuda_on_cpu_bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_on_cpu_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_on_cpu_bits<double>(x); }

// Conversions saturate on a GPU and send NaN to 0, where C++ leaves the result undefined.
template <class To>
To cuda_on_cpu_saturated(double x, To least, To most) {
    if (x != x) return 0;
    if (x <= static_cast<double>(least)) return least;
    return x >= static_cast<double>(most) ? most : static_cast<To>(x);
}
inline int __float2int_rn(float x) { return cuda_on_cpu_saturated(rint(x), INT_MIN, INT_MAX); }
inline int __float2int_rz(float x) { return cuda_on_cpu_saturated(trunc(x), INT_MIN, INT_MAX); }
inline int __float2int_rd(float x) { return cuda_on_cpu_saturated(floor(x), INT_MIN, INT_MAX); }
inline int __float2int_ru(float x) { return cuda_on_cpu_saturated(ceil(x), INT_MIN, INT_MAX); }
inline unsigned __float2uint_rn(float x) { return cuda_on_cpu_saturated(rint(x), 0u, UINT_MAX); }
inline unsigned __float2uint_rz(float x) { return cuda_on_cpu_saturated(trunc(x), 0u, UINT_MAX); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1u) << (31 - i);
    return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

template <class T>
T __ldg(const T* at) { return *at; }
template <class T>
T __ldcs(const T* at) { return *at; }
template <class T>
T __ldcg(const T* at) { return *at; }
template <class T>
void __stcs(T* at, T value) { *at = value; }
template <class T>
void __stcg(T* at, T value) { *at = value; }

inline long long clock64() { return 0; }
