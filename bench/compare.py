#!/usr/bin/env python3
"""clnorm against PyTorch, oneDNN and NumPy (batch norm) on the CPU, and dlprimitives on OpenCL devices, in one run and in turns."""

import argparse
import importlib.util
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys

ELEMENTS_MAX = 1 << 30  # of a case: the check holds it in fp64
ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "compare.py"
PEERS = ("torch", "onednn", "numpy", "dlprimitives")
MODES = ("train", "infer", "backward")
NORMS = ("batch", "layer", "group", "instance", "rms")
LAYOUTS = {"nc": (2, 2), "ncs": (3, 5), "nsc": (3, 5)}
SETS = {"torch": "torch", "onednn": "compare"}  # of scripts/packages.txt
SIZES = "PyTorch comes with CUDA's libraries, which its modules are linked to: a download of 3 GB, 5.4 GB on disk"
# Freed memory stays with PyTorch: its backward can only return new tensors, and would be charged for fresh pages.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}


class UsageError(Exception):
    """One sentence; exit code 2."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see {PROGRAM} --help")


def words(text):
    return [word for word in text.split(",") if word]


def number(kind, least):
    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not value >= least:
            raise argparse.ArgumentTypeError(f"it is {text!r} and must be a number of at least {least}")
        return value

    return convert


def read_options(arguments):
    p = Parser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""
Builds the contenders in build/compare, checks the first result of each against fp64, then times them in turns on
buffers that rotate through four times the last-level cache. What is missing is installed by scripts/install-deps.sh,
the peers into a folder of your cache directory. {SIZES}.

example: bench/compare.py --shapes bench/shapes/resnet50.txt --out out/comparison""",
    )
    p.add_argument(
        "--shapes",
        metavar="FILE",
        default=str(ROOT / "bench/shapes/quick.txt"),
        help="cases, as clnorm bench has them (shapes/quick.txt)",
    )
    p.add_argument(
        "--peers", metavar="LIST", type=words, help="of torch, onednn, numpy and dlprimitives (the first three)"
    )
    p.add_argument(
        "--devices",
        metavar="LIST",
        type=words,
        default=["cpu"],
        help="where clnorm runs, as clnorm devices names them (cpu)",
    )
    p.add_argument(
        "--modes", metavar="LIST", type=words, default=list(MODES), help="of train, infer and backward (all)"
    )
    p.add_argument(
        "--rounds",
        metavar="N",
        type=number(int, 1),
        default=15,
        help="turns of every contender in a case and mode (15)",
    )
    p.add_argument(
        "--seconds",
        metavar="S",
        type=number(float, 0),
        default=1.5,
        help="no new round after so long, but three in any case (1.5)",
    )
    p.add_argument("--warm", action="store_true", help="the same buffers at every call")
    p.add_argument(
        "--out",
        metavar="DIR",
        default=str(ROOT / "out/comparison"),
        help="where comparison.md, .json and the plots go (out/comparison)",
    )
    p.add_argument(
        "--page",
        metavar="FILE",
        help="also rewrite this run's part of a page of the documents, and its plots in images beside it",
    )
    p.add_argument("--build", metavar="DIR", help="take the contenders built there; nothing is built")
    p.add_argument("--dlprimitives", metavar="DIR", help="where dlprimitives is installed (it has no package)")
    p.add_argument("--no-install", action="store_true", help="install nothing: what is missing is told and left out")
    options = p.parse_args(arguments)
    options.peers = options.peers if options.peers is not None else ["torch", "onednn", "numpy"]
    for option, known in (("peers", PEERS), ("modes", MODES)):
        for word in getattr(options, option):
            if word not in known:
                raise UsageError(f"--{option}: {word!r} is none of {', '.join(known)}")
    for option in ("devices", "modes"):
        if not getattr(options, option):
            raise UsageError(f"--{option}: the list is empty")
    options.label = "-".join([pathlib.Path(options.shapes).stem, *["warm"] * options.warm, *set_apart(options.devices)])
    options.cases = read_shapes(options.shapes)
    if options.page:
        check_page(options)
    return options


def set_apart(devices):
    """What names a run on other devices than the usual one, in pages and files."""
    names = [] if devices == ["cpu"] else devices
    return ["".join(c if c.isalnum() else "-" for c in name.lower()) for name in names]


def read_norm(words, place, channels, dimensions):
    """The norm of a case: what its words after the shape say."""
    norm = {"norm": "batch"}
    for word in words:
        key, _, value = word.partition("=")
        if key not in ("norm", "groups", "dims"):
            raise UsageError(f'{place}: "{word}" is no word that is compared: norm=, groups= and dims= are')
        if key != "norm" and not (value.isascii() and value.isdigit() and 0 < int(value) < 1 << 31):
            raise UsageError(f'{place}: "{word}" must have a whole number of at least 1')
        norm[key] = value if key == "norm" else int(value)
    if norm["norm"] not in NORMS:
        raise UsageError(f'{place}: the norm is "{norm["norm"]}" and must be {", ".join(NORMS)}')
    if (norm["norm"] == "group") != ("groups" in norm) or channels % norm.get("groups", 1):
        raise UsageError(f"{place}: groups= goes with group norm alone, and must be a divisor of the {channels} channels")
    if "dims" in norm and (norm["norm"] not in ("layer", "rms") or norm["dims"] >= dimensions):
        raise UsageError(f"{place}: dims= goes with layer and RMS norm alone, and must be fewer than the {dimensions} dimensions")
    return norm


def read_shapes(path):
    """[(name, layout, sizes, norm)], by the rules of clnorm bench; norm: {"norm": …, "groups": …, "dims": …}, what is there."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = [line.split("#")[0].split() for line in stream]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--shapes {path}: {getattr(error, 'strerror', None) or error}") from error
    cases = []
    for k, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) < 3:
            raise UsageError(
                f"{path}:{k}: a case is at least three words, NAME LAYOUT NxC[xSPATIAL...]; this line has {len(line)}"
            )
        name, layout, shape = line[:3]
        if layout not in LAYOUTS:
            raise UsageError(f'{path}:{k}: the layout is "{layout}" and must be nc, ncs or nsc')
        sizes = shape.split("x")
        least, most = LAYOUTS[layout]
        whole = all(size.isascii() and size.isdigit() and len(size) < 12 and int(size) for size in sizes)
        if not whole or not least <= len(sizes) <= most:
            dimensions = "2" if least == most else f"{least} to {most}"
            raise UsageError(
                f'{path}:{k}: the shape is "{shape}" and must be {dimensions} whole numbers of at least 1, as 32x64x7x7'
            )
        if math.prod(map(int, sizes)) > ELEMENTS_MAX:
            raise UsageError(f'{path}:{k}: the shape is "{shape}" and must have at most {ELEMENTS_MAX} elements')
        cases.append((name, layout, tuple(map(int, sizes)), read_norm(line[3:], f"{path}:{k}", int(sizes[1]), len(sizes))))
    if not cases:
        raise UsageError(f"{path}: it has no case")
    return cases


def check_page(options):
    import compare_report

    try:
        page = pathlib.Path(options.page).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--page {options.page}: {getattr(error, 'strerror', None) or error}") from error
    if compare_report.replace_block(page, options.label, "") is None:
        raise UsageError(
            f"--page {options.page}: it has no lines <!-- compare.py {options.label}: begin --> and "
            f"<!-- compare.py {options.label}: end -->"
        )


def say(text):
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


# ---- what has to be there


def install(options):
    """{set: folder of its virtual environment}, of the sets that are there."""
    script = str(ROOT / "scripts/install-deps.sh")
    sets = ["compare", *(["torch"] if "torch" in options.peers else [])]
    if not options.no_install:
        wanted = ["build", *sets]
        missing = subprocess.run(
            [script, "--list", *wanted], stdout=subprocess.PIPE, text=True, check=False
        ).stdout.split()
        if missing:
            say(
                f"installing {' '.join(missing)}"
                + (f". {SIZES}" if any(m.startswith("torch==") for m in missing) else "")
            )
        if subprocess.run([script, *wanted], stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(f"{PROGRAM}: scripts/install-deps.sh {' '.join(wanted)} failed")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "clnorm-testbed"
    return {name: str(cache / name) for name in sets if (cache / name / "complete").exists()}


def build(options, environments):
    """The folder of the contenders that are programs."""
    if options.build:
        return pathlib.Path(options.build) / "bench/peers"
    folder = ROOT / "build/compare"
    onednn = environments.get("compare", "") if "onednn" in options.peers else ""
    targets = ["compare-clnorm", *(["compare-onednn"] if onednn else [])]
    configure = [
        "cmake",
        "-S",
        str(ROOT),
        "-B",
        str(folder),
        "-G",
        "Ninja",
        "--log-level=WARNING",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCLNORM_TESTS=OFF",
        "-DCLNORM_EXAMPLES=OFF",
        f"-DCLNORM_COMPARE_ONEDNN={onednn}",
    ]
    if "dlprimitives" in options.peers and options.dlprimitives:
        configure.append(f"-DCLNORM_COMPARE_DLPRIMITIVES={os.path.abspath(options.dlprimitives)}")
        targets.append("compare-dlprimitives")
    say(f"building in {folder}")
    for command in (configure, ["cmake", "--build", str(folder), "--target", *targets]):
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if run.returncode:
            sys.stderr.write(run.stdout)
            raise SystemExit(f"{PROGRAM}: {shlex.join(command)} failed")
    return folder / "bench/peers"


# ---- the run


def start(options, environments, programs):
    """The contenders that there are, clnorm's first, and a sentence about each that is missing."""
    from compare_run import Contender, ContenderError

    contenders, missing = [], []
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}

    def add(kind, command, device=None, environment=None):
        try:
            contenders.append(Contender(kind, command, device, environment))
        except ContenderError as error:
            missing.append(f"{error}.")

    for device in options.devices:
        add("clnorm", [str(programs / "compare-clnorm"), device], device)
    if not contenders:
        return contenders, missing
    python = str(ROOT / "bench/peers/peers.py")
    for peer in options.peers:
        if peer == "numpy":
            add(peer, [sys.executable, python, peer])
        elif peer == "torch" and "torch" in environments:
            add(peer, [f"{environments['torch']}/bin/python", python, peer], None, {**threads, **KEEP_MEMORY})
        elif peer == "onednn" and (programs / "compare-onednn").exists():
            add(peer, [str(programs / "compare-onednn")], None, threads)
        elif peer == "dlprimitives" and (programs / "compare-dlprimitives").exists():
            places = [
                (c.device, re.search(r"\(opencl:(\d+)\.(\d+)\)$", c.label)) for c in contenders if c.kind == "clnorm"
            ]
            for device, place in places:
                if place:
                    add(peer, [str(programs / "compare-dlprimitives"), ":".join(place.groups())], device)
            if not any(place for _, place in places):
                missing.append("dlprimitives is not measured: no OpenCL device is among --devices.")
        elif peer == "dlprimitives":
            missing.append("dlprimitives is not measured: --dlprimitives must name the folder where it is installed.")
        else:
            missing.append(f"{peer} is not measured: it is not installed (scripts/install-deps.sh {SETS[peer]}).")
    return contenders, missing


def machine():
    model = "an unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"Measured on {len(os.sched_getaffinity(0))} cores ({model}), f32, with:"


def compare(options, environments, programs):
    import compare_report
    import compare_run

    contenders, missing = start(options, environments, programs)
    for sentence in missing:
        say(sentence)
    if not any(c.kind == "clnorm" for c in contenders):
        return 1
    rows = []
    for i, case in enumerate(options.cases, 1):
        name, layout, sizes, _ = case
        text = f"[{i}/{len(options.cases)}] {name} {layout} {'x'.join(map(str, sizes))}"

        measured = compare_run.measure(contenders, case, options, lambda mode, text=text: say(f"{text} {mode}"))
        rows += compare_report.result_rows(case, measured, contenders)
    for contender in contenders:
        contender.close()
    result = {
        "shapes": options.label,
        "cases": pathlib.Path(options.shapes).stem + "-warm" * options.warm,
        "machine": machine(),
        "buffers": "warm" if options.warm else "cold",
        "contenders": [c.label for c in contenders],
        "missing": missing,
        "rows": rows,
    }
    print(compare_report.write(result, options, say), end="")
    for sentence in compare_report.absences(rows, []):
        say(sentence)
    return 1 if missing or any(row["failed"] for row in rows) else 0


def main():
    try:
        options = read_options(sys.argv[1:])
    except UsageError as error:
        say(error)
        return 2
    environments = install(options)
    interpreter = f"{environments['compare']}/bin/python" if "compare" in environments else sys.executable
    if "compare" in environments and not os.path.samefile(sys.prefix, environments["compare"]):
        # What is below needs NumPy, and the version that is measured is the one of the list.
        os.execv(interpreter, [interpreter, *sys.argv])
    if not importlib.util.find_spec("numpy"):
        say("NumPy is missing, which checks the results: scripts/install-deps.sh compare installs it")
        return 1
    return compare(options, environments, build(options, environments))


if __name__ == "__main__":
    sys.exit(main())
