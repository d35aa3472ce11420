"""What compiled CUDA kernels take from a GPU: registers, and memory for what does not fit in them.

The compiler needs no GPU. Either NVIDIA's nvcc, or NVRTC, the library that CuPy compiles with,
through cuda.bindings. Both print the same lines from ptxas, the assembler: for every kernel the
registers of a thread and the bytes that it spills to memory.

``python tests/cuda_resources.py`` measures every kernel and rewrites cuda_kernels.toml: the builds
of a file (its -D options) stay as they are, and each kernel is allowed the registers that it takes
now, rounded up to a multiple of 8, which is how a GPU hands them out.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parents[1] / "kernels" / "minicnn_kernels" / "cupy_cuda"
TABLE = Path(__file__).with_name("cuda_kernels.toml")
ARCHITECTURES = ("sm_80", "sm_90")
HEAD = """\
# For every .cu file of minicnn_kernels.cupy_cuda: the -D options of each build that is tested, and
# how many registers each kernel may take. Nothing may spill. Rewritten by cuda_resources.py.
"""

_FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")

Compiler = Callable[[Path, Mapping[str, int], str], str]


class CompileError(Exception):
    """The compiler refused a file; the text is its output."""


@dataclasses.dataclass
class Resources:
    """Of one kernel: registers of a thread, bytes stored to and loaded from spill memory."""

    registers: int
    spills: int


def options(file: Path, defines: Mapping[str, int], architecture: str) -> list[str]:
    chosen = [f"-D{name}={value}" for name, value in defines.items()]
    return ["-std=c++17", f"-I{file.parent}", f"-arch={architecture}", *chosen]


def nvcc(file: Path, defines: Mapping[str, int], architecture: str) -> str:
    """The report of ptxas, by way of nvcc."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["nvcc", "-cubin", *options(file, defines, architecture), "-Xptxas", "-v"]
        command += ["-o", f"{folder}/out.cubin", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stderr


def nvrtc(file: Path, defines: Mapping[str, int], architecture: str) -> str:
    """The report of ptxas, by way of the run-time compiler."""
    from cuda.bindings import nvrtc as api

    text, name = file.read_bytes(), file.name.encode()
    _, program = api.nvrtcCreateProgram(text, name, 0, [], [])
    chosen = [*options(file, defines, architecture), "--ptxas-options=-v"]
    status = api.nvrtcCompileProgram(program, len(chosen), [o.encode() for o in chosen])[0]
    _, size = api.nvrtcGetProgramLogSize(program)
    log = b" " * size
    api.nvrtcGetProgramLog(program, log)
    if status != api.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(log.decode())
    return log.decode()


def compilers() -> dict[str, Compiler]:
    """Those of the two that this machine has."""
    found: dict[str, Compiler] = {}
    if shutil.which("nvcc"):
        found["nvcc"] = nvcc
    try:
        from cuda.bindings import nvrtc as api

        api.nvrtcVersion()
        found["nvrtc"] = nvrtc
    except (ImportError, RuntimeError):  # the package, or the library that it loads, is missing
        pass
    return found


def measure(
    compiler: Compiler, file: Path, defines: Mapping[str, int], architecture: str
) -> dict[str, Resources]:
    """The resources of every kernel of a file."""
    found: dict[str, Resources] = {}
    name = ""
    for line in compiler(file, defines, architecture).splitlines():
        if match := _FUNCTION.search(line):
            name = match[1]
            found[name] = Resources(0, 0)
        elif match := _SPILLS.search(line):
            found[name].spills += int(match[1]) + int(match[2])
        elif match := _REGISTERS.search(line):
            found[name].registers = int(match[1])
    return found


def files() -> list[Path]:
    """The kernel files on the disk."""
    return sorted(KERNELS.glob("*.cu"))


def table() -> dict[str, Any]:
    """What cuda_kernels.toml says."""
    return tomllib.loads(TABLE.read_text())


def builds(budget: Mapping[str, Any], file: Path) -> list[dict[str, int]]:
    """The -D options with which a file is compiled."""
    return budget.get(file.stem, {}).get("builds", [{}])


def most_registers(budget: Mapping[str, Any], file: Path) -> dict[str, int]:
    """For each kernel of a file the most that any build takes, in steps of 8."""
    most: dict[str, int] = {}
    for defines in builds(budget, file):
        for architecture in ARCHITECTURES:
            for compiler in compilers().values():
                for name, taken in measure(compiler, file, defines, architecture).items():
                    most[name] = max(most.get(name, 0), -(-taken.registers // 8) * 8)
    return most


def main() -> None:
    """Measure every kernel and rewrite the table."""
    budget = table()
    lines = [HEAD]
    for file in files():
        most = most_registers(budget, file)
        lines.append(f"[{file.stem}]")
        if file.stem in budget and "builds" in budget[file.stem]:
            rows = [
                "    {" + ", ".join(f"{name} = {value}" for name, value in row.items()) + "},\n"
                for row in builds(budget, file)
            ]
            lines.append(f"builds = [\n{''.join(rows)}]")
        lines.append(f"[{file.stem}.registers]")
        lines += [f"{name} = {count}" for name, count in sorted(most.items())]
        lines.append("")
    TABLE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
