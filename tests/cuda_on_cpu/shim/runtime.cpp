// The scheduler: runs a grid of blocks, one after the other, each as a set of fibers.
//
// A block runs in rounds. In each round every thread that can run does so, in an order that was
// drawn for this block, until it ends or waits. Then warps whose lanes have all arrived at a warp
// operation are let go, and when nothing else can run, the whole block at its barrier. A GPU
// promises no order between barriers: a kernel that lacks one works in some orders only.
#include "cuda_on_cpu.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <string>
#include <utility>
#include <vector>

#include "fibers.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

extern "C" unsigned char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern "C" unsigned char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

namespace cuda_on_cpu {

constexpr size_t kMostDynamic = 227 << 10;
constexpr size_t kZone = 4096;  // behind the dynamic shared memory: nobody may write there
constexpr unsigned char kZonePattern = 0xC3;

enum class State { ready, at_block_barrier, at_warp_barrier, ended };

struct Copy { unsigned char* to; const unsigned char* from; int bytes; bool valid; int group; };

struct Fiber {
    Context context;
    Stack stack;
    State state;
    unsigned mask;     // of the warp barrier it waits at
    const char* file;  // where it waits
    int line;
    int group;         // of asynchronous copies, still open
    std::vector<Copy> copies;
};

uint3 thread_index, block_index;
dim3 block_size, grid_size;
int thread_number;
alignas(1024) unsigned char dynamic_memory[kMostDynamic + kZone];

static std::vector<Fiber> fibers;
static std::vector<unsigned char> boards;
static Context scheduler;
static Stack scheduler_stack;
static sigjmp_buf fault_exit;
static void (*kernel_body)(void**);
static void** kernel_arguments;
static const char* kernel_name;
static std::string failure;
static int count;  // threads of a block

static std::string format(const char* form, ...) {
    char text[1024];
    va_list values;
    va_start(values, form);
    vsnprintf(text, sizeof text, form, values);
    va_end(values);
    return text;
}

static uint3 index_of(int number) {
    unsigned n = static_cast<unsigned>(number), plane = block_size.x * block_size.y;
    return {n % block_size.x, n / block_size.x % block_size.y, n / plane};
}

static std::string place(int number) {
    uint3 t = index_of(number);
    return format("kernel '%s', block (%u, %u, %u), thread (%u, %u, %u)", kernel_name,
                  block_index.x, block_index.y, block_index.z, t.x, t.y, t.z);
}

// ------------------------------------------------------------------ switching

static void to_scheduler() {
    Fiber& me = fibers[thread_number];
    leave(me.stack, scheduler_stack);
    switch_context(me.context, scheduler);
    arrive(me.stack, nullptr);
}

static void run_thread() {
    arrive(fibers[thread_number].stack, &scheduler_stack);
    kernel_body(kernel_arguments);
    fibers[thread_number].state = State::ended;
    to_scheduler();
}

static void resume(int number) {
    thread_number = number;
    thread_index = index_of(number);
    leave(scheduler_stack, fibers[number].stack);
    switch_context(scheduler, fibers[number].context);
    arrive(scheduler_stack, nullptr);
}

static void wait(State state, unsigned mask, const char* file, int line) {
    Fiber& me = fibers[thread_number];
    me.state = state;
    me.mask = mask;
    me.file = file;
    me.line = line;
    to_scheduler();
}

void wait_for_block(const char* file, int line) {
    wait(State::at_block_barrier, 0, file, line);
}

void wait_for_warp(unsigned mask, const char* file, int line) {
    wait(State::at_warp_barrier, mask, file, line);
}

void fail(const char* what, const char* file, int line) {
    failure = format("%s: %s (%s:%d)", place(thread_number).c_str(), what, file, line);
    to_scheduler();
    __builtin_unreachable();
}

int count_votes(bool vote, const char* file, int line) {
    *board(lane()) = vote;
    wait_for_block(file, line);
    int votes = 0;
    for (int i = 0; i < count; i++) votes += boards[i * kBoardBytes];
    wait_for_block(file, line);
    return votes;
}

// ------------------------------------------------------------------ warps

unsigned char* board(int lane) {
    return &boards[((thread_number & ~31) + lane) * kBoardBytes];
}

static unsigned lanes_where(int warp, bool (*holds)(const Fiber&, unsigned), unsigned mask) {
    unsigned lanes = 0;
    for (int i = 0; i < 32 && warp + i < count; i++)
        if (holds(fibers[warp + i], mask)) lanes |= 1u << i;
    return lanes;
}

static unsigned alive(int warp) {
    return lanes_where(warp, [](const Fiber& f, unsigned) { return f.state != State::ended; }, 0);
}

unsigned lanes_at_board(unsigned mask) { return mask & alive(thread_number & ~31); }

static bool release_warp(int warp) {
    bool released = false;
    for (int i = warp; i < warp + 32 && i < count; i++) {
        if (fibers[i].state != State::at_warp_barrier) continue;
        unsigned mask = fibers[i].mask, needed = mask & alive(warp);
        unsigned arrived = lanes_where(warp, [](const Fiber& f, unsigned m) {
            return f.state == State::at_warp_barrier && f.mask == m;
        }, mask);
        if ((arrived & needed) != needed) continue;
        for (int lane = 0; lane < 32; lane++)
            if (needed >> lane & 1) fibers[warp + lane].state = State::ready;
        released = true;
    }
    return released;
}

// ------------------------------------------------------------------ asynchronous copies

void start_copy(void* to, const void* from, int bytes, bool valid) {
    auto at = reinterpret_cast<uintptr_t>(to) | (valid ? reinterpret_cast<uintptr_t>(from) : 0);
    if (at % bytes) fail("cp.async at an address that is no multiple of its size", "cp.async", bytes);
    Fiber& me = fibers[thread_number];
    memset(to, 0xFF, bytes);
    me.copies.push_back({static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from),
                         bytes, valid, me.group});
}

void close_copy_group() { fibers[thread_number].group++; }

void finish_copies(int groups_left) {
    Fiber& me = fibers[thread_number];
    size_t kept = 0;
    for (Copy& copy : me.copies) {
        if (copy.group >= me.group - groups_left) me.copies[kept++] = copy;
        else if (copy.valid) memcpy(copy.to, copy.from, copy.bytes);
        else memset(copy.to, 0, copy.bytes);
    }
    me.copies.resize(kept);
}

// ------------------------------------------------------------------ shared memory

#ifdef __SANITIZE_ADDRESS__
// Between the variables lie red zones, which memset may not enter.
__attribute__((no_sanitize("address"), optimize("no-tree-loop-distribute-patterns")))
static void fill_with_ones(unsigned char* from, unsigned char* to) {
    while (from < to) *from++ = 0xFF;
}
#else
static void fill_with_ones(unsigned char* from, unsigned char* to) { memset(from, 0xFF, to - from); }
#endif

static void poison_shared(size_t dynamic_bytes) {
    if (__start_cuda_shared) fill_with_ones(__start_cuda_shared, __stop_cuda_shared);
    fill_with_ones(dynamic_memory, dynamic_memory + dynamic_bytes);
#ifndef __SANITIZE_ADDRESS__
    memset(dynamic_memory + dynamic_bytes, kZonePattern, kZone);
#endif
}

static bool zone_is_whole(size_t dynamic_bytes) {
#ifndef __SANITIZE_ADDRESS__
    for (size_t i = 0; i < kZone; i++)
        if (dynamic_memory[dynamic_bytes + i] != kZonePattern) {
            failure = format("kernel '%s', block (%u, %u, %u): wrote %zu bytes behind the %zu bytes "
                             "of dynamic shared memory that it was launched with", kernel_name,
                             block_index.x, block_index.y, block_index.z, i, dynamic_bytes);
            return false;
        }
#endif
    return true;
}

static void limit_dynamic_memory(size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(dynamic_memory, sizeof dynamic_memory);
    __asan_poison_memory_region(dynamic_memory + bytes, sizeof dynamic_memory - bytes);
#else
    (void)bytes;
#endif
}

// ------------------------------------------------------------------ blocks

struct Random {
    uint64_t state;
    unsigned below(unsigned n) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<unsigned>((state >> 33) * n >> 31);
    }
};

// Order 0 is ascending, 1 descending, any other a seed.
static void draw_order(std::vector<int>& turns, unsigned order, uint64_t block) {
    for (int i = 0; i < count; i++) turns[i] = order == 1 ? count - 1 - i : i;
    if (order < 2) return;
    Random random{order * 0x9E3779B97F4A7C15ull + block};
    random.below(2);
    for (int i = count - 1; i > 0; i--) std::swap(turns[i], turns[random.below(i + 1)]);
}

static bool diverged() {
    int first = -1, other = -1, arrived = 0;
    for (int i = 0; i < count; i++)
        if (fibers[i].state == State::at_block_barrier && first < 0) first = i;
    for (int i = 0; i < count && first >= 0; i++) {
        const Fiber &a = fibers[first], &b = fibers[i];
        bool same = b.state == State::at_block_barrier && a.line == b.line && !strcmp(a.file, b.file);
        arrived += same;
        if (!same && other < 0) other = i;
    }
    if (first >= 0 && other < 0) return false;
    if (first < 0) {
        for (other = 0; fibers[other].state == State::ended;) other++;
        failure = format("%s: waits at %s:%d for lanes of its mask 0x%08x that never come",
                         place(other).c_str(), fibers[other].file, fibers[other].line,
                         fibers[other].mask);
        return true;
    }
    const Fiber& o = fibers[other];
    failure = format("%s: __syncthreads at %s:%d was reached by %d of the %d threads of the block",
                     place(first).c_str(), fibers[first].file, fibers[first].line, arrived, count);
    uint3 t = index_of(other);
    failure += o.state == State::ended
                   ? format("; thread (%u, %u, %u) ended without it", t.x, t.y, t.z)
                   : format("; thread (%u, %u, %u) waits at %s:%d", t.x, t.y, t.z, o.file, o.line);
    return true;
}

// True where every thread ended; false leaves the reason in `failure`.
static bool run_block(const std::vector<int>& turns) {
    for (int i = 0; i < count; i++) {
        Fiber& f = fibers[i];
        f.state = State::ready;
        f.group = 0;
        f.copies.clear();
        f.stack = {stack_bottom(i), kStackBytes, nullptr};
        prepare(f.context, stack_bottom(i), run_thread);
    }
    for (;;) {
        bool running = false;
        int ended = 0;
        for (int i : turns) {
            if (fibers[i].state == State::ready) {
                resume(i);
                if (!failure.empty()) return false;
            }
        }
        for (int warp = 0; warp < count; warp += 32) running |= release_warp(warp);
        for (int i = 0; i < count; i++) ended += fibers[i].state == State::ended;
        if (ended == count) return true;
        if (running) continue;
        if (diverged()) return false;
        for (Fiber& f : fibers)
            if (f.state == State::at_block_barrier) f.state = State::ready;
    }
}

static bool run_grid(size_t dynamic_bytes, unsigned order) {
    uint64_t total = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    uint64_t stride = 1, start = 0;
    if (order > 1) {
        start = Random{order * 0x2545F4914F6CDD1Dull}.below(1u << 30) % total;
        auto shares_factor = [&](uint64_t s) {
            uint64_t a = s, b = total;
            while (b) std::swap(a %= b, b);
            return a != 1;
        };
        for (stride = total * 5 / 8 | 1; shares_factor(stride);) stride++;
    }
    std::vector<int> turns(count);
    for (uint64_t i = 0; i < total; i++) {
        uint64_t b = order == 1 ? total - 1 - i : (start + i * stride) % total;
        block_index = {unsigned(b % grid_size.x), unsigned(b / grid_size.x % grid_size.y),
                       unsigned(b / (uint64_t(grid_size.x) * grid_size.y))};
        poison_shared(dynamic_bytes);
        draw_order(turns, order, b);
        if (!run_block(turns) || !zone_is_whole(dynamic_bytes)) return false;
    }
    return true;
}

// ------------------------------------------------------------------ faults of the processor

#ifndef __SANITIZE_ADDRESS__
static void on_fault(int signal) { siglongjmp(fault_exit, signal); }

class FaultGuard {
public:
    FaultGuard() {
        stack_t stack{};
        stack.ss_sp = memory;
        stack.ss_size = sizeof memory;
        sigaltstack(&stack, &stack_before);
        struct sigaction action{};
        action.sa_handler = on_fault;
        action.sa_flags = SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 3; i++) sigaction(signals[i], &action, &before[i]);
    }
    ~FaultGuard() {
        for (int i = 0; i < 3; i++) sigaction(signals[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }

private:
    static constexpr int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
    static inline unsigned char memory[64 << 10];
    struct sigaction before[3];
    stack_t stack_before;
};
#else
struct FaultGuard { FaultGuard() {} };  // the sanitizer's own report says more
#endif

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

// The stacks to run on: those of another library, or, given none, new ones; returns them.
extern "C" __attribute__((visibility("default"))) void* cuda_on_cpu_stacks(void* given) {
    all_stacks = given ? static_cast<unsigned char*>(given) : made_stacks();
    return all_stacks;
}

// Null where the kernel ran, otherwise what went wrong. `shape` is the grid, then the block.
extern "C" __attribute__((visibility("default"))) const char* cuda_on_cpu_launch(
    void (*run)(void**), void** arguments, const char* name, const unsigned* shape,
    size_t dynamic_bytes, unsigned order) {
    kernel_body = run;
    kernel_arguments = arguments;
    kernel_name = name;
    failure.clear();
    grid_size = {shape[0], shape[1], shape[2]};
    block_size = {shape[3], shape[4], shape[5]};
    count = static_cast<int>(shape[3] * shape[4] * shape[5]);
    fibers.resize(count);
    boards.assign((count + 31) / 32 * 32 * kBoardBytes, 0);
    limit_dynamic_memory(dynamic_bytes);
    FaultGuard guard;
    int signal = sigsetjmp(fault_exit, 1);
    if (signal) {
        const char* what = signal == SIGFPE ? "divided an integer by zero"
                                            : "touched memory that does not exist, or misaligned";
        failure = place(thread_number) + ": " + what;
    } else {
        run_grid(dynamic_bytes, order);
    }
    return failure.empty() ? nullptr : failure.c_str();
}
