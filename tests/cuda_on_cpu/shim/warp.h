// Shuffles, votes and reductions of a warp: meetings at the warp's board.
#pragma once

namespace cuda_on_cpu {

inline unsigned mask_or_all(unsigned mask = kAllLanes) { return mask; }

// Each lane brings `mine`; the answer is what the lane `from` brought. What a lane that is not in
// the mask would have brought is undefined on a GPU, and a pattern of ones (NaN) here.
template <class T>
T exchange(unsigned mask, T mine, int from, const char* file, int line) {
    static_assert(sizeof(T) <= kBoardBytes, "too large for a shuffle");
    if (!(mask >> lane() & 1)) fail("a warp operation by a lane that its mask leaves out", file, line);
    memcpy(board(lane()), &mine, sizeof(T));
    wait_for_warp(mask, file, line);
    T theirs;
    if (lanes_at_board(mask) >> from & 1) memcpy(&theirs, board(from), sizeof(T));
    else memset(static_cast<void*>(&theirs), 0xFF, sizeof(T));
    wait_for_warp(mask, file, line);
    return theirs;
}

template <class T>
T shuffle(unsigned mask, T mine, int from, int width, const char* file, int line) {
    return exchange(mask, mine, (lane() & ~(width - 1)) | (from & (width - 1)), file, line);
}

template <class T>
T shuffle(unsigned mask, T mine, int from, const char* file, int line) {
    return exchange(mask, mine, from & 31, file, line);
}

// Lanes whose source would lie outside their group of `width` keep what they have.
template <class T>
T shuffle_by(unsigned mask, T mine, int distance, int width, const char* file, int line) {
    int within = (lane() & (width - 1)) + distance;
    bool inside = within >= 0 && within < width;
    return exchange(mask, mine, inside ? lane() + distance : lane(), file, line);
}

template <class T>
T shuffle_xor(unsigned mask, T mine, int bits, int width, const char* file, int line) {
    int source = lane() ^ bits;
    bool inside = source < (lane() & ~(width - 1)) + width;
    return exchange(mask, mine, inside ? source : lane(), file, line);
}

// fold(so far, what the next lane brought) over the lanes of the mask, in the order of the lanes.
template <class T, class Fold>
T gather(unsigned mask, T mine, Fold fold, const char* file, int line) {
    if (!(mask >> lane() & 1)) fail("a warp operation by a lane that its mask leaves out", file, line);
    memcpy(board(lane()), &mine, sizeof(T));
    wait_for_warp(mask, file, line);
    T total{};
    bool first = true;
    for (int i = 0; i < 32; i++) {
        if (!(lanes_at_board(mask) >> i & 1)) continue;
        T theirs;
        memcpy(&theirs, board(i), sizeof(T));
        total = first ? theirs : fold(total, theirs);
        first = false;
    }
    wait_for_warp(mask, file, line);
    return total;
}

inline unsigned ballot(unsigned mask, bool vote, const char* file, int line) {
    unsigned mine = vote ? 1u << lane() : 0u;
    return gather(mask, mine, [](unsigned a, unsigned b) { return a | b; }, file, line);
}

// The defaults of CUDA's own signatures: width = 32.
template <class T>
T shuffle_by(unsigned mask, T mine, int distance, const char* file, int line) {
    return shuffle_by(mask, mine, distance, 32, file, line);
}

template <class T>
T shuffle_xor(unsigned mask, T mine, int bits, const char* file, int line) {
    return shuffle_xor(mask, mine, bits, 32, file, line);
}

template <class T>
T shuffle_up(unsigned mask, T mine, unsigned by, const char* file, int line) {
    return shuffle_by(mask, mine, -static_cast<int>(by), 32, file, line);
}

template <class T>
T shuffle_up(unsigned mask, T mine, unsigned by, int width, const char* file, int line) {
    return shuffle_by(mask, mine, -static_cast<int>(by), width, file, line);
}

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_HERE __FILE__, __LINE__
#define __shfl_sync(...) cuda_on_cpu::shuffle(__VA_ARGS__, CUDA_ON_CPU_HERE)
#define __shfl_down_sync(...) cuda_on_cpu::shuffle_by(__VA_ARGS__, CUDA_ON_CPU_HERE)
#define __shfl_up_sync(...) cuda_on_cpu::shuffle_up(__VA_ARGS__, CUDA_ON_CPU_HERE)
#define __shfl_xor_sync(...) cuda_on_cpu::shuffle_xor(__VA_ARGS__, CUDA_ON_CPU_HERE)
#define __ballot_sync(mask, vote) cuda_on_cpu::ballot(mask, vote, CUDA_ON_CPU_HERE)
#define __any_sync(mask, vote) (__ballot_sync(mask, vote) != 0)
#define __all_sync(mask, vote) (__ballot_sync(mask, !(vote)) == 0)
#define CUDA_ON_CPU_FOLD(mask, value, result) \
    cuda_on_cpu::gather(mask, value, [](auto a, auto b) { return result; }, CUDA_ON_CPU_HERE)
#define __reduce_add_sync(mask, value) CUDA_ON_CPU_FOLD(mask, value, a + b)
#define __reduce_min_sync(mask, value) CUDA_ON_CPU_FOLD(mask, value, a < b ? a : b)
#define __reduce_max_sync(mask, value) CUDA_ON_CPU_FOLD(mask, value, a > b ? a : b)
#define __reduce_and_sync(mask, value) CUDA_ON_CPU_FOLD(mask, value, a & b)
#define __reduce_or_sync(mask, value) CUDA_ON_CPU_FOLD(mask, value, a | b)

inline unsigned __activemask() { return cuda_on_cpu::lanes_at_board(cuda_on_cpu::kAllLanes); }
