"""From CUDA C++ text to a library, with g++ and the headers in ``shim``.

Two steps. The preprocessor resolves the kernel's own includes and macros, with the names of CUDA
left alone; its output says by itself which files it came from, and is the key of the cache on disk.
There the kernels are found, and dynamic shared memory, which C++ has no words for, is given some:

    extern __shared__ float tile[];     becomes     float* const tile = (float*)dynamic memory;

Then the compiler proper, with the shim before it and a table of entry points behind.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SHIM = Path(__file__).parents[1] / "shim"
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
_BOUNDS_FIRST = re.compile(r"__launch_bounds__\s*\([^)]*\)\s*void\s+(\w+)\s*\(")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([^;\[\]]*?)\s*(\w+)\s*\[\s*\]\s*;")
_FLAGS = ("-std=c++17", "-O1", "-g", "-fPIC", "-fno-strict-aliasing", "-fvisibility=hidden", "-w")
_SANITIZE = (
    "-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all",
    "-fsanitize-sections=cuda_shared",
)  # fmt: skip


class CompileException(Exception):
    """The compiler refused the text."""


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def flags(sanitize: bool) -> tuple[str, ...]:
    return (*_FLAGS, *_SANITIZE) if sanitize else _FLAGS


def folder() -> Path:
    """Where libraries are kept between runs."""
    chosen = os.environ.get("MINICNN_CUDA_ON_CPU_CACHE")
    name = f"minicnn-cuda-on-cpu-{os.getuid()}"
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / name


def library(code: str, options: tuple[str, ...], sanitize: bool) -> tuple[Path, list[str]]:
    """The compiled library and the names of its kernels."""
    text = _preprocessed(code, options)
    text = _DYNAMIC.sub(
        r"\1* const \2 = reinterpret_cast<\1*>(cuda_on_cpu::dynamic_memory);",
        re.sub(r"(extern\s+__shared__)\s+__align__\s*\([^)]*\)", r"\1", text),
    )
    kernels = sorted({*_KERNEL.findall(text), *_BOUNDS_FIRST.findall(text)})
    key = _digest(text, _shim_digest(), " ".join(flags(sanitize)))
    target = folder() / f"{key}.so"
    if not target.exists():
        _compile(text, kernels, target, sanitize)
    return target, kernels


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@functools.cache
def _shim_digest() -> str:
    return _digest(*(path.read_text() for path in sorted(SHIM.iterdir())), compiler() or "")


def _preprocessed(code: str, options: tuple[str, ...]) -> str:
    chosen = [o.replace(" ", "") for o in options if re.match(r"-[DIU]|--?std", o)]
    origin = _origin(code, chosen)
    command = [
        str(compiler()), "-E", "-x", "c++", *chosen, "-DMINICNN_CUDA_ON_CPU=1", "-D__CUDACC__=1",
        "-D__CUDACC_RTC__=1", "-D__CUDA_ARCH__=900", "-",
    ]  # fmt: skip
    return _run(command, f'#line 1 "{origin}"\n{code}')


def _origin(code: str, options: list[str]) -> str:
    """The file that the text came from, looked for in the include folders."""
    for option in options:
        if option.startswith("-I"):
            for path in sorted(Path(option[2:]).glob("*.cu")):
                if path.read_text() == code:
                    return str(path)
    path = folder() / f"{_digest(code)}.cu"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return str(path)


def _run(command: list[str], text: str | None = None) -> str:
    if compiler() is None:
        raise CompileException("there is no C++ compiler: install g++ or set CXX")
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise CompileException(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _runtime(sanitize: bool) -> Path:
    """The scheduler, compiled once for all kernels."""
    key = _digest(_shim_digest(), " ".join(flags(sanitize)))
    target = folder() / f"runtime-{key}.o"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        command = [str(compiler()), *flags(sanitize), "-c", str(SHIM / "runtime.cpp")]
        _run([*command, "-o", str(part)])
        part.replace(target)
    return target


def _compile(text: str, kernels: list[str], target: Path, sanitize: bool) -> None:
    runtime = _runtime(sanitize)
    entries = "".join(f"CUDA_ON_CPU_KERNEL({name})\n" for name in kernels)
    source = (
        '#include "cuda_on_cpu.h"\n#include "kernel_entry.h"\n'
        f'namespace {{\n{text}\n}}\n# 1 "entries"\n{entries}'
    )
    part = target.with_suffix(f".{os.getpid()}.part")
    command = [
        str(compiler()), *flags(sanitize), "-shared", "-I", str(SHIM), "-x", "c++", "-",
        "-x", "none", str(runtime), "-Wl,-Bsymbolic", "-o", str(part),
    ]  # fmt: skip
    _run(command, source)
    part.replace(target)
