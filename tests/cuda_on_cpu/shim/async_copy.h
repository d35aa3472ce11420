// cp.async: copies to shared memory that are under way until the thread waits for them.
//
// A GPU may finish such a copy at once or late. This one is as late as it may be: the destination
// holds ones (NaN) from the moment of the order to the moment of the wait, so a kernel that reads
// before its wait, or lets other threads read before a barrier, computes with NaN.
#pragma once

namespace cuda_on_cpu {

void start_copy(void* to, const void* from, int bytes, bool valid);  // zeros where not valid
void close_copy_group();
void finish_copies(int groups_left);

}  // namespace cuda_on_cpu

inline void cp_async_4(void* shared, const void* global, bool valid) {
    cuda_on_cpu::start_copy(shared, global, 4, valid);
}
inline void cp_async_16(void* shared, const void* global, bool valid) {
    cuda_on_cpu::start_copy(shared, global, 16, valid);
}
inline void cp_async_commit() { cuda_on_cpu::close_copy_group(); }
template <int N>
inline void cp_async_wait() { cuda_on_cpu::finish_copies(N); }
