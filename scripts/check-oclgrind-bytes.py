#!/usr/bin/env python3
"""Compares the bytes that kernels load and store, as Oclgrind counts them, with what `clnorm explain` states.

For three shapes of each variant (segments and columns, fused and split; folded columns; inference), and for types of 16 bits
with and without an activation and a residual, the program runs in Oclgrind's simulator, which counts instructions. Loads and
stores of global memory must be within 1 % of the bytes an element that explain states, from memory and from the cache
together: a simulator has no cache. The rest, values of whole groups and partials, is in that 1 %; the shapes are large enough
for it. Rows (layer and RMS norm) are left out: the sums of their weights, which stay in the cache, are 15 to 25 % of the
tensors' bytes. The launches must be those that explain names.
"""

import argparse
import array
import collections
import concurrent.futures
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

TOLERANCE = 0.01
# As scripts/check-oclgrind.sh says.
OCLGRIND = ["oclgrind", "--num-threads", "1", "--build-options", "-cl-opt-disable -DCLNORM_SIMULATED"]

BYTES = r"^  bytes an element: (\S+) read from memory, (\S+) written; (\S+) read again from the cache$"

# Work-items that are alone on wide vectors, as on CPUs, and work-groups on narrow ones, as on GPUs; of few work-items and short
# spans, so that each column has many rows.
CPU_LIKE = "segments w16 g1 s64 columns w16 g1 l1 s16 groups g16 fused {fused} waves 2"
GPU_LIKE = "segments w4 g16 s1 columns w2 g16 l8 s1 groups g16 fused {fused} waves 2"
SCALAR = "segments w1 g4 s1 columns w1 g8 l4 s1 groups g8 fused {fused} waves 2"

Case = collections.namedtuple("Case", "family variant layout shape row modes types act residual",
                              defaults=(("f32", "f32"), "none", "none"))


def cases():
    segments = [("ncs", "4x8x96x80", CPU_LIKE), ("ncs", "3x5x61x67", CPU_LIKE), ("ncs", "2x6x128x64", GPU_LIKE)]
    columns = [("nsc", "8x64x30x16", CPU_LIKE), ("nc", "3072x100", GPU_LIKE), ("nsc", "8x24x32x32", SCALAR)]
    few_columns = [("nsc", "8x3x80x80", CPU_LIKE), ("nsc", "11x5x67x65", CPU_LIKE), ("nsc", "8x16x40x32", CPU_LIKE)]
    for family, variant, kib, shapes in (
        ("segments", "fused", 8192, segments),
        ("segments", "split", 0, segments),
        ("columns", "fused", 8192, columns),
        ("columns", "split", 0, columns),
        ("columns", "split, folded", 0, few_columns),
    ):
        for layout, shape, row in shapes:
            yield Case(family, variant, layout, shape, row.format(fused=kib), ["forward", "backward"])
    for family, (layout, shape, row) in (("segments", segments[2]), ("columns", columns[2]), ("columns", few_columns[0])):
        yield Case(family, "apply", layout, shape, row.format(fused=0), ["infer"])
    # Types of 16 bits, and what is fused, with both families and variants.
    both, halves, mixed = ["forward", "backward"], ("f16", "f16"), ("bf16", "f32")
    for kib, variant in ((8192, "fused"), (0, "split")):
        for family, (layout, shape, row) in (("segments", segments[0]), ("segments", segments[2]), ("columns", columns[1])):
            yield Case(family, variant, layout, shape, row.format(fused=kib), both, halves)
            yield Case(family, variant, layout, shape, row.format(fused=kib), both, mixed, "relu", "after")


class Failure(Exception):
    pass


def run(command, row):
    environment = dict(os.environ, CLNORM_CACHE="off", CLNORM_TUNING=row)
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit code {result.returncode}: {result.stdout[-1000:]}{result.stderr[-1000:]}")
    return result.stdout


def explained(text, mode):
    """The variant of a mode, its kernels, and the bytes an element that they read and write."""
    part = re.search(rf"^{mode}: (\w+).*\n((?:  .*\n)+)", text, flags=re.M)
    moved = part and re.search(BYTES, part[2], flags=re.M)
    if not moved:
        raise Failure(f"explain does not tell the bytes of {mode}: {text}")
    launches = re.findall(r"^  launch \d+: (\w+), \d+ work-groups of \d+(.*)$", part[2], flags=re.M)
    variant = part[1] + (", folded" if "rows taken as one" in part[2] and mode != "infer" else "")
    kernels = [kernel for kernel, when in launches if "running statistics" not in when]  # there are none
    memory, written, again = map(float, moved.groups())
    return variant, kernels, (memory + again, written)


def counted(text):
    """{kernel: [bytes loaded, bytes stored]}: plain ones are counted in bytes, vloadN and vstoreN as calls of N numbers."""
    kernels = {}
    name = None
    for line in text.splitlines():
        begin = re.match(r"Instructions executed for kernel '(\w+)'", line)
        plain = re.match(r" *\d+ - (load|store) global \((\d+) bytes\)", line)
        vector = re.match(r" *(\d+) - call _Z\d+v(load|store)(?:_half)?(\d*)(?:_rte)?[mjDv]\w*PU3AS1K?(f|Dh|t)\(", line)
        if begin:
            name = begin[1]
            if name in kernels:
                raise Failure(f"{name} ran twice")
            kernels[name] = [0, 0]
        elif plain:
            kernels[name][plain[1] == "store"] += int(plain[2])
        elif vector:
            kernels[name][vector[2] == "store"] += int(vector[1]) * int(vector[3] or 1) * (4 if vector[4] == "f" else 2)
    return kernels


# As .npy has a type, and the bits of numbers from 1 to 2: those of 1, and what may be added.
TYPES = {"f32": ("<f4", "I", 0x3F800000, 1 << 23), "f16": ("<f2", "H", 0x3C00, 1 << 10), "bf16": ("<u2", "H", 0x3F80, 1 << 7)}


def write_npy(path, sizes, dtype, values):
    name, code, one, count = TYPES[dtype]
    header = f"{{'descr': '{name}', 'fortran_order': False, 'shape': ({', '.join(map(str, sizes))},), }}"
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117).encode("ascii") + b"\n")
        array.array(code, (one + values.randrange(count) for _ in range(math.prod(sizes)))).tofile(stream)


def write_inputs(folder, case):
    """What clnorm run reads: x, z and dy in the order of memory, running statistics. -> elements of x"""
    sizes = [int(size) for size in case.shape.split("x")]
    channels = sizes[1]
    if case.layout == "nsc":
        sizes = [sizes[0], *sizes[2:], channels]
    values = random.Random(1)
    x_type, y_type = case.types
    for name, dimensions, dtype in (("x", sizes, x_type), ("z", sizes, x_type), ("dy", sizes, y_type),
                                    ("mean", [channels], "f32"), ("var", [channels], "f32")):
        write_npy(folder / f"{name}.npy", dimensions, dtype, values)
    return math.prod(sizes)


def check(program, case):
    """The lines of a case: what was stated and counted. Raises Failure if they differ."""
    problem = ["--device", "Oclgrind", "--layout", case.layout, "--dtype", case.types[0], "--y-dtype", case.types[1],
               "--act", case.act, "--residual", case.residual]
    text = run([*OCLGRIND, program, "explain", *problem, "--shape", case.shape], case.row)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        elements = write_inputs(folder, case)
        inputs = ["--mode", "backward", "--dy", f"{folder}/dy.npy"]  # runs a forward too
        if case.residual != "none":
            inputs += ["--z", f"{folder}/z.npy"]
        if case.modes == ["infer"]:
            inputs = ["--mode", "infer", "--running-mean", f"{folder}/mean.npy", "--running-var", f"{folder}/var.npy"]
        counts = counted(run([*OCLGRIND, "--inst-counts", program, "run", *problem, *inputs, "--x", f"{folder}/x.npy",
                              "--out", f"{folder}/out"], case.row))
    lines = []
    ran = []
    for mode in case.modes:
        variant, kernels, stated = explained(text, mode)
        if variant != case.variant and mode != "infer":
            raise Failure(f"{mode} of {case.layout} {case.shape} is {variant}, not {case.variant}")
        ran += kernels
        for k, what in enumerate(("read", "written")):
            got = sum(counts.get(kernel, [0, 0])[k] for kernel in kernels) / elements
            fused = "/".join(case.types) + "".join(f" {what}" for what in (case.act, case.residual) if what != "none")
            line = (f"{case.family:8} {variant:13} {mode:8} {case.layout:3} {case.shape:12} {fused:19} {what:7} "
                    f"{stated[k]:8.4f} stated {got:8.4f} counted")
            if not abs(got - stated[k]) <= TOLERANCE * stated[k]:
                raise Failure(f"{line}: more than {TOLERANCE:.0%} apart")
            lines.append(f"{line} {got / stated[k] - 1:+.2%}")
    if sorted(ran) != sorted(counts):
        raise Failure(f"{case.layout} {case.shape}: explain names {ran}, but {list(counts)} ran")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="clnorm")
    program = os.path.abspath(parser.parse_args().program)
    failures = 0
    total = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(check, program, case) for case in cases()]
        for future in futures:
            total += 1
            try:
                print("\n".join(future.result()), flush=True)
            except Failure as failure:
                failures += 1
                print(f"FAILED: {failure}", flush=True)
    print(f"{total - failures} of {total} cases move what explain states.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
