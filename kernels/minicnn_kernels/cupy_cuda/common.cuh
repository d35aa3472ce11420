// What every kernel file shares. Included as text by the run-time compiler: no host headers.
#pragma once

// A number that a captured graph may have to read anew at each replay: from memory where there is
// an address, otherwise the value that was passed.
struct Number {
    double value;
    const double* at;
};

struct Key {
    unsigned long long value;
    const unsigned long long* at;
};

__device__ inline double read(Number n) { return n.at ? *n.at : n.value; }

__device__ inline unsigned long long read(Key k) { return k.at ? *k.at : k.value; }

// Whether vectors of 16 bytes may be loaded from here; a view may start anywhere.
__device__ __forceinline__ bool aligned(const void* p) {
    return (reinterpret_cast<size_t>(p) & 15) == 0;
}
