// Stacks to run on, and the switch from one to another.
//
// A switch saves the registers that a called function must preserve, exchanges stack pointers and
// restores them: about twenty instructions, where the C library's swapcontext makes a system call.
// That is written out for x86-64; other processors take the C library's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 256 << 10;  // instrumented frames are large
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kGuardBytes = 4096;

// Stacks for the largest block, each above a page that may not be touched. Memory is used by those
// that run. Each such page is a mapping, of which a process may have 65530: so the libraries of
// kernels share the stacks that the first of them makes (see cuda_on_cpu_stacks in runtime.cpp).
constexpr size_t kStackStep = kStackBytes + kGuardBytes;
inline unsigned char* all_stacks = nullptr;

inline unsigned char* made_stacks() {
    void* got = mmap(nullptr, kStackStep * 1024, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return nullptr;
    auto* bottom = static_cast<unsigned char*>(got);
    for (int i = 0; i < 1024; i++) mprotect(bottom + i * kStackStep, kGuardBytes, PROT_NONE);
    return bottom;
}

inline unsigned char* stack_bottom(int number) {
    return all_stacks + number * kStackStep + kGuardBytes;
}

#ifdef __x86_64__

extern "C" void cuda_on_cpu_switch(void** save, void* load);
asm(R"(
.text
.hidden cuda_on_cpu_switch
.globl cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");

struct Context { void* stack; };

inline void prepare(Context& context, unsigned char* bottom, void (*entry)()) {
    void** top = reinterpret_cast<void**>(bottom + kStackBytes) - 2;  // keeps 16-byte alignment
    top[0] = reinterpret_cast<void*>(entry);
    for (int i = 1; i <= 6; i++) top[-i] = nullptr;  // the saved registers
    context.stack = top - 6;
}

inline void switch_context(Context& from, Context& to) { cuda_on_cpu_switch(&from.stack, to.stack); }

#else

struct Context { ucontext_t state; };

inline void prepare(Context& context, unsigned char* bottom, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = bottom;
    context.state.uc_stack.ss_size = kStackBytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#endif

// The address sanitizer has to know which stack is in use.
struct Stack { const void* bottom = nullptr; size_t size = 0; void* shadow = nullptr; };

#ifdef __SANITIZE_ADDRESS__
inline void leave(Stack& from, const Stack& to) {
    __sanitizer_start_switch_fiber(&from.shadow, to.bottom, to.size);
}
inline void arrive(Stack& here, Stack* came_from) {
    __sanitizer_finish_switch_fiber(here.shadow, came_from ? &came_from->bottom : nullptr,
                                    came_from ? &came_from->size : nullptr);
}
#else
inline void leave(Stack&, const Stack&) {}
inline void arrive(Stack&, Stack*) {}
#endif

}  // namespace cuda_on_cpu
