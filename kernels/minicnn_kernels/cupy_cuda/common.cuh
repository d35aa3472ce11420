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

// The run-time compiler knows no INFINITY, which is in a header of the host's.
__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// Whether vectors of 16 bytes may be loaded from here; a view may start anywhere.
__device__ __forceinline__ bool aligned(const void* p) {
    return (reinterpret_cast<size_t>(p) & 15) == 0;
}

// Where a thread stands in an array (planes, rows, columns). A grid that is smaller than the array
// lets each thread walk through it in steps of the whole grid. Dividing a position into plane, row
// and column at each step would cost more than the work itself, so the walk counts like an
// odometer: the step is divided once, and then the wheels only add and carry.
struct Place {
    int plane, row, column;
};

__device__ __forceinline__ Place place(unsigned at, int rows, int columns) {
    const unsigned line = at / columns;
    return {(int)(line / rows), (int)(line % rows), (int)(at % columns)};
}

__device__ __forceinline__ Place first_place(int rows, int columns) {
    return place(blockIdx.x * blockDim.x + threadIdx.x, rows, columns);
}

__device__ __forceinline__ Place grid_step(int rows, int columns) {
    return place(gridDim.x * blockDim.x, rows, columns);
}

__device__ __forceinline__ void advance(Place& at, const Place& step, int rows, int columns) {
    at.column += step.column;
    const int column_carry = at.column >= columns;
    at.column -= column_carry ? columns : 0;
    at.row += step.row + column_carry;
    const int row_carry = at.row >= rows;
    at.row -= row_carry ? rows : 0;
    at.plane += step.plane + row_carry;
}

// Division of 0 <= n < 2**31 by a number known at the launch: a multiplication by its reciprocal in
// fixed point and a shift (Granlund & Montgomery 1994), where the processor's own division takes
// some twenty instructions.
struct Divider {
    unsigned multiplier;
    int shift;
};

__device__ __forceinline__ int quotient(int n, Divider by) {
    const unsigned high = (unsigned)(((unsigned long long)(unsigned)n * by.multiplier) >> 32);
    return (int)((high + (unsigned)n) >> by.shift);
}
