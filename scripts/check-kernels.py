#!/usr/bin/env python3
"""Compiles kernels.cl for GPUs that need not be there, and fails on any spill or scratch memory.

For NVIDIA by clang (nvptx64) with libclc, then ptxas; for AMD by clang (amdgcn) with libclc, whose assembly states what a
kernel uses. Prints a table: registers a work-item, bytes of local memory, bytes
spilled, and how many waves a compute unit can hold, of how many at most.
"""
import argparse
import concurrent.futures
import functools
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

NVIDIA = ("sm_80", "sm_90")
AMD = ("gfx906", "gfx90a", "gfx1030")
# Waves of one SIMD at most, as LLVM counts its "Occupancy"; warps of one multiprocessor at most.
AMD_WAVES = {"gfx906": 10, "gfx90a": 8, "gfx1030": 16}
NVIDIA_WARPS = 64
NVIDIA_REGISTERS = 65536
NVIDIA_WARP_GRANULE = 256  # registers are given to a warp in units of this
NVIDIA_LOCAL = {"sm_80": 164 * 1024, "sm_90": 228 * 1024}  # bytes of shared memory of one multiprocessor
NVIDIA_LOCAL_RESERVED = 1024  # of it, for each work-group


# What a program of each family is compiled for beside f32 and the norm alone: types of x and y, activation, residual, whether its
# backward is from y, and whether samples have lengths (kernels.cl). GELU with a residual keeps most in registers; rows alone have a residual before the norm.
FORMS = {
    "SEGMENTS": ["1 1 0 0", "2 1 3 1", "2 1 2 1 1", "0 0 0 0 0 1", "2 1 1 1 0 0 1"],
    "ROWS": ["1 1 0 0", "2 1 3 1", "1 2 4 2", "2 1 2 1 1", "0 0 1 2 0 0 1"],
    "COLUMNS": ["1 1 0 0", "2 1 3 1", "2 1 2 1 1", "0 0 0 0 0 1", "2 1 1 1 0 0 1"],
    "GROUPS": ["0 0 0 0 0 1", "0 1 0 0 0 0 1"],
    "DOUBLE": [],
}


class Failure(Exception):
    """A sentence for the user."""


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def compile_to_assembly(arguments, triple, options, output, cpu=None):
    bitcode = pathlib.Path(arguments.libclc) / f"{triple}.bc"
    if not bitcode.exists():
        raise Failure(f"{bitcode} is missing: it comes with libclc-15")
    command = [arguments.clang, "-target", triple, "-x", "cl", "-cl-std=CL1.2", "-O3", "-nogpulib", "-Werror"]
    command += ["-Xclang", "-finclude-default-header", "-Xclang", "-mlink-bitcode-file", "-Xclang", str(bitcode)]
    command += [f"-mcpu={cpu}"] if cpu else []
    run(command + options + ["-S", str(arguments.source), "-o", str(output)])
    return output.read_text()


def amd(arguments, options, folder):
    """Yields (target, kernel, registers, local bytes, spilled bytes, waves, limit), and fills arguments.groups."""
    for target in AMD:
        text = compile_to_assembly(arguments, "amdgcn--amdhsa", options, folder / f"{target}.s", target)
        names = re.findall(r"^\s*\.amdhsa_kernel (\w+)", text, re.M)
        details = re.split(r"^; Kernel info:", text, flags=re.M)[1:]
        if not names or len(names) != len(details):
            raise Failure(f"clang's assembly for {target} does not tell of every kernel")
        for entry in re.split(r"^  - \.", text[text.rindex(".amdgpu_metadata"):], flags=re.M)[1:]:
            name = re.search(r"^    \.name: +(\w+)", entry, re.M).group(1)
            size = re.search(r"^    \.reqd_workgroup_size:\s+- (\d+)\s+- (\d+)\s+- (\d+)", entry, re.M)
            if not size:
                raise Failure(f"kernel {name} does not say its work-group size, so registers can't be counted against it")
            arguments.groups[name] = tuple(map(int, size.groups()))
        for name, detail in zip(names, details):
            value = {key: int(re.search(rf"^; {key}: (\d+)", detail, re.M).group(1))
                     for key in ("NumVgprs", "LDSByteSize", "ScratchSize", "Occupancy")}
            yield (target, name, value["NumVgprs"], value["LDSByteSize"], value["ScratchSize"], value["Occupancy"],
                   AMD_WAVES[target])


def nvidia_waves(target, registers, local, work_items):
    """Warps that fit a multiprocessor by registers and local memory, in whole work-groups."""
    per_warp = -(-registers * 32 // NVIDIA_WARP_GRANULE) * NVIDIA_WARP_GRANULE
    warps = -(-work_items // 32)
    groups = min(NVIDIA_WARPS, NVIDIA_REGISTERS // per_warp) // warps
    return min(groups, NVIDIA_LOCAL[target] // (local + NVIDIA_LOCAL_RESERVED)) * warps


def nvidia(arguments, options, folder):
    """Yields the same for NVIDIA; waves are warps of a multiprocessor."""
    ptx = compile_to_assembly(arguments, "nvptx64--nvidiacl", options, folder / "kernels.ptx")
    declared = set(re.findall(r"^\s*(?:\.visible )?\.entry (\w+)", ptx, re.M))
    # libclc's target is too old for today's ptxas; the code itself is not.
    ptx = re.sub(r"^\.version .*", ".version 7.8", ptx, flags=re.M)
    # What a work-group of that size leaves a work-item. clang drops reqd_work_group_size here; given back as .reqntid it
    # would make ptxas spill a few registers for more waves, which says nothing about whether they fit.
    largest = max(math.prod(size) for size in arguments.groups.values())
    most = min(255, NVIDIA_REGISTERS // largest // 8 * 8)
    for target in NVIDIA:
        path = folder / f"{target}.ptx"
        path.write_text(re.sub(r"^\.target .*", f".target {target}", ptx, flags=re.M))
        log = run([arguments.ptxas, "-v", f"-arch={target}", f"-maxrregcount={most}", path, "-o", folder / f"{target}.cubin"])
        found = re.findall(
            r"Function properties for (\w+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
            r".*?Used (\d+) registers(?:[^\n]*? (\d+) bytes smem)?", log, re.S)
        if not declared or {entry[0] for entry in found} != declared:
            raise Failure(f"ptxas did not tell of every kernel ({', '.join(sorted(declared))}):\n{log}")
        for name, stack, stores, loads, registers, local in found:
            waves = nvidia_waves(target, int(registers), int(local or 0), math.prod(arguments.groups[name]))
            spilled = int(stack) + int(stores) + int(loads)
            yield target, name, int(registers), int(local or 0), spilled, waves, NVIDIA_WARPS


def gpu_variants(tuning):
    """The build options of every row of the tuning table that is not for CPUs, plain and of each form."""
    text = tuning.read_text()
    row = r"\{CLNORM_CLASS_(\w+), [^{}]*\{([\d, ]+)\}\}"
    rows = re.findall(row, text)
    if not rows or len(rows) != text.count("{CLNORM_CLASS_"):
        raise Failure(f"the rows of {tuning} are not of the form that this script reads")
    variants = set()
    for kind, numbers in rows:
        if kind != "CPU":
            # struct cln_tuning, in its order
            width, group, span, columns_width, columns_group, _, columns_span, groups_group, _, _ = numbers.split(", ")
            variants.add(("SEGMENTS", width, group, span))
            variants.add(("ROWS", width, group, span))
            variants.add(("COLUMNS", columns_width, columns_group, columns_span))
            variants.add(("GROUPS", "1", groups_group, "1"))
            variants.add(("DOUBLE", "1", groups_group, "1"))
    options = []
    for family, width, group, span in sorted(variants, key=lambda v: (v[0], [int(n) for n in v[1:]])):
        plain = [f"-DCLNORM_{family}", f"-DW={width}", f"-DWG={group}", f"-DSPAN={span}"]
        options.append(plain)
        for form in FORMS[family]:
            names = ("XT", "YT", "ACT", "RES", "FROM_Y", "LENGTHS", "MASK")
            options.append(plain + [f"-D{name}={value}" for name, value in zip(names, form.split())])
    return options


def find(name, given, path=None):
    found = given or shutil.which(name, path=path)
    if not found or not shutil.which(found):
        raise Failure(f"{found or name} is missing: scripts/install-deps.sh ci installs it")
    return found


def compile_variant(arguments, options):
    """The rows of every target."""
    own = argparse.Namespace(**vars(arguments), groups={})
    with tempfile.TemporaryDirectory() as folder:
        return [row for compiler in (amd, nvidia) for row in compiler(own, options, pathlib.Path(folder))]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=pathlib.Path, default=root / "kernels.cl", help="default: kernels.cl")
    parser.add_argument("--tuning", type=pathlib.Path, default=root / "host" / "tuning.c",
                        help="the tuning table; every variant of its GPU rows is compiled")
    parser.add_argument("--clang", help="default: clang-15")
    parser.add_argument("--libclc", default="/usr/lib/clc", help="folder of libclc's bitcode")
    parser.add_argument("--ptxas", default=os.environ.get("CLNORM_PTXAS"), help="default: $CLNORM_PTXAS or ptxas")
    arguments = parser.parse_args()

    failures = 0
    try:
        arguments.clang = find("clang-15", arguments.clang)
        arguments.ptxas = find("ptxas", arguments.ptxas)
        variants = gpu_variants(arguments.tuning)
        print(f"{'variant':72} {'kernel':32} {'target':8} {'registers':>9} {'local':>6} {'spilled':>8} {'waves':>9}")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = pool.map(functools.partial(compile_variant, arguments), variants)
            for options, rows in zip(variants, compiled):
                for target, name, registers, local, spilled, waves, limit in rows:
                    verdict = "" if spilled == 0 else "  FAILED: spills"
                    failures += spilled != 0
                    label = " ".join(options)
                    print(f"{label:72} {name:32} {target:8} {registers:9} {local:6} {spilled:8} {waves:5}/{limit:<3}{verdict}")
    except Failure as failure:
        sys.exit(f"check-kernels.py: {failure}")
    if failures:
        sys.exit(f"check-kernels.py: {failures} kernels spill registers")
    print("No kernel spills registers or uses scratch memory.")


if __name__ == "__main__":
    main()
