// Atomic operations on integers: one fiber runs at a time, so each is what it says.
//
// Those that add floating-point numbers do not compile here. The order in which blocks come is not
// fixed on a GPU, and with it the rounding: a sum by atomics has other bits in every run.
#pragma once

namespace cuda_on_cpu {

template <class T>
struct Atomic {
    static_assert(std::is_integral<T>::value,
                  "atomics on floating-point numbers make results depend on the order of blocks");
};

template <class T, class Change>
T change(T* at, Change to) {
    (void)sizeof(Atomic<T>);
    T before = *at;
    *at = to(before);
    return before;
}

template <class T>
struct Same { using type = T; };
template <class T>
using same = typename Same<T>::type;  // the second argument takes its type from the first

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_ATOMIC(name, result)                            \
    template <class T>                                              \
    T name(T* at, cuda_on_cpu::same<T> value) {                     \
        return cuda_on_cpu::change(at, [=](T old) { return T(result); }); \
    }

CUDA_ON_CPU_ATOMIC(atomicAdd, old + value)
CUDA_ON_CPU_ATOMIC(atomicSub, old - value)
CUDA_ON_CPU_ATOMIC(atomicMin, old < value ? old : value)
CUDA_ON_CPU_ATOMIC(atomicMax, old > value ? old : value)
CUDA_ON_CPU_ATOMIC(atomicAnd, old & value)
CUDA_ON_CPU_ATOMIC(atomicOr, old | value)
CUDA_ON_CPU_ATOMIC(atomicXor, old ^ value)
CUDA_ON_CPU_ATOMIC(atomicExch, ((void)old, value))
CUDA_ON_CPU_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
CUDA_ON_CPU_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)

#undef CUDA_ON_CPU_ATOMIC

template <class T>
T atomicCAS(T* at, cuda_on_cpu::same<T> expected, cuda_on_cpu::same<T> value) {
    return cuda_on_cpu::change(at, [=](T old) { return old == expected ? value : old; });
}
