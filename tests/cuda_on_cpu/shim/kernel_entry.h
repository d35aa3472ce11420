// What the host needs to call a kernel: its parameters in words, and a call with an array of
// addresses, one for each parameter. Both follow from the type of the function.
#pragma once

#include <string>
#include <utility>

namespace cuda_on_cpu {

// "f4", "i8", "u4", "b1": number and size. "s16": a struct of 16 bytes. "*f4": an address of such.
template <class T>
std::string in_words() {
    if constexpr (std::is_pointer<T>::value) {
        using Pointee = typename std::remove_cv<typename std::remove_pointer<T>::type>::type;
        if constexpr (std::is_void<Pointee>::value) return "*";
        else return "*" + in_words<Pointee>();
    } else {
        using namespace std;
        const char* kind = is_same<T, bool>::value ? "b"
                           : is_floating_point<T>::value ? "f"
                           : !is_integral<T>::value ? "s"
                           : is_signed<T>::value ? "i" : "u";
        return kind + to_string(sizeof(T));
    }
}

template <class... P>
std::string parameters(void (*)(P...)) {
    std::string all;
    ((all += in_words<typename std::remove_cv<P>::type>() + " "), ...);
    return all;
}

template <class... P, size_t... I>
void call_with(void (*kernel)(P...), void** at, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(at[I])...);
}

template <class... P>
void call(void (*kernel)(P...), void** at) {
    call_with(kernel, at, std::index_sequence_for<P...>());
}

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_KERNEL(name)                                                           \
    extern "C" __attribute__((visibility("default"))) void run__##name(void** at) {        \
        cuda_on_cpu::call(name, at);                                                       \
    }                                                                                      \
    extern "C" __attribute__((visibility("default"))) const char* parameters__##name() {   \
        static const std::string words = cuda_on_cpu::parameters(name);                    \
        return words.c_str();                                                              \
    }
