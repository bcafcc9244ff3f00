"""clnorm bench: its limits move what they say, the files of shapes, the figures of a small run on every device, wrong usage."""

import json
import os
import re
import statistics
import subprocess

import support

SHAPES = os.environ["CLNORM_BENCH_SHAPES"]
PARTS = os.environ["CLNORM_BENCH_PARTS"]

# One small case a layout; nothing divides anything.
TINY = """# a comment
plain nc 37x19
first ncs 5x3x7x11   # and one here

last nsc 2x6x3x5x7
"""

# One case of every norm; the last one is of another layout.
NORMS = """rows nc 37x19 norm=layer
rows ncs 5x3x7x11 norm=rms dims=2
rows nsc 3x4x7 dims=1 norm=layer
groups ncs 5x6x7x11 norm=group groups=2
groups nsc 5x6x7x11 groups=3 norm=group
images ncs 5x6x7x11 norm=instance
images nsc 5x6x7x11 norm=instance
"""

REQUIRED = {
    "device": str,
    "norm": str,
    "mode": str,
    "layout": str,
    "shape": list,
    "dtype": str,
    "best_ms": float,
    "median_ms": float,
    "bytes": int,
    "limit_ms": float,
    "ratio": float,
}

TENSORS = {"train": 3, "infer": 2, "backward": 5}


def layouts_of(name):
    """The cases of a file that comes with bench: (name, layout, sizes)."""
    with open(os.path.join(SHAPES, name), encoding="ascii") as stream:
        lines = [line.split("#")[0].split()[:3] for line in stream]
    return [(n, layout, tuple(map(int, shape.split("x")))) for n, layout, shape in filter(None, lines)]


class Limits(support.ToolTest):
    def test_every_stream_moves_every_value(self):
        for device in support.devices():
            with self.subTest(device=device):
                result = subprocess.run([PARTS, device], capture_output=True, text=True, timeout=300, check=False)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                rows = [line.split("\t") for line in result.stdout.splitlines()]
                for stream, name, count, wrong in rows:
                    self.assertEqual(wrong, "0", (stream, name, count))
                names = {(stream, name) for stream, name, _, _ in rows}
                if device == "cpu":
                    self.assertIn(("copy", "memcpy"), names)
                    self.assertIn(("add", "plain, 1 thread"), names)
                else:
                    self.assertIn(("copy", "clEnqueueCopyBuffer"), names)
                    self.assertTrue([n for s, n in names if s == "add" and n.startswith("kernel")])
                self.assertEqual(len({count for _, _, count, _ in rows}), 8)


class Shapes(support.ToolTest):
    def write(self, text):
        with open(self.path("shapes.txt"), "wb") as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())

    def test_errors_name_file_and_line(self):
        cases = [
            ("a nc\n", r"shapes\.txt:1: .*three words.*this line has 2"),
            ("a\n", r"shapes\.txt:1: .*three words.*this line has 1"),
            ("# first\n\na nc 3x4 5\n", r'shapes\.txt:3: .*"5" is one too many'),
            ("a nc 3x4 norm=rows\n", r'shapes\.txt:1: the norm is "rows" and must be batch, layer, group, instance or rms'),
            ("a nc 3x4 norm=layer 5\n", r'shapes\.txt:1: .*"5" is one too many'),
            ("a nc 3x4 norm=layer dims=0\n", r'shapes\.txt:1: dims= is "0" and must be a whole number from 1'),
            ("a nc 3x4 norm=layer dims=2\n", r"shapes\.txt:1: dims= is 2 and must be from 1 to 1"),
            ("a nc 3x4 norm=group\n", r"shapes\.txt:1: groups= is missing"),
            ("a nc 3x4 norm=group groups=x\n", r'shapes\.txt:1: groups= is "x" and must be a whole number'),
            ("a nc 3x4 norm=group groups=3\n", r"shapes\.txt:1: groups= is 3 and must be a divisor of the 4 channels"),
            ("a nc 3x4 groups=2\n", r"shapes\.txt:1: groups= is given; it goes with group norm alone"),
            ("a nc 3x4 norm=group groups=2 dims=1\n", r"shapes\.txt:1: dims= is given; it goes with layer and RMS norm"),
            ("a nc 3x4 batch=0\n", r'shapes\.txt:1: batch= is "0" and must be a whole number from 1'),
            ("a nc 3x4 norm=rms batch=2\n", r"shapes\.txt:1: batch= is given; it goes with batch norm alone"),
            ("a nc 3x4\nb cn 3x4\n", r'shapes\.txt:2: the layout is "cn" and must be nc, ncs or nsc'),
            ("a NC 3x4\n", r'shapes\.txt:1: the layout is "NC"'),
            ("a nc 3x4x5\n", r"shapes\.txt:1: .*must be NxC for layout nc"),
            ("a ncs 3x4\n", r"shapes\.txt:1: .*at least one spatial dimension for layout ncs"),
            ("a nsc 3\n", r"shapes\.txt:1: .*at least one spatial dimension for layout nsc"),
            ("a ncs 1x2x3x4x5x6\n", r"shapes\.txt:1: .*more than 3 spatial dimensions"),
            ("a nc 3x0\n", r"shapes\.txt:1: .*at least 1"),
            ("a nc -3x4\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc +3x4\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc 3x\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc x3\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc 3xx4\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc 3.5x4\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc 3X4\n", r"shapes\.txt:1: .*whole numbers"),
            ("a nc 99999999999999999999x1\n", r"shapes\.txt:1: .*2\^40 elements"),
            ("a nc 4294967296x4294967296\n", r"shapes\.txt:1: .*2\^40 elements"),
            ("a" * 48 + " nc 3x4\n", r"shapes\.txt:1: the name .*longer than 47"),
            ("", r"shapes\.txt: it has no case"),
            ("# nothing\n\n  # here\n", r"shapes\.txt: it has no case"),
            (b"a nc 3x4\n\0", r"shapes\.txt: it has a zero byte"),
            ("#" * (1 << 20) + "\n", r"shapes\.txt: it is larger than"),
        ]
        for text, pattern in cases:
            with self.subTest(text=text[:60]):
                self.write(text)
                self.assert_refused(["bench", "--device", "cpu", "--shapes", "shapes.txt"], "^clnorm bench: " + pattern)

    def test_lines_end_as_they_like(self):
        self.write("a nc 3x4\r\n\tb  ncs\t3x4x5")
        result = self.clnorm("bench", "--device", "cpu", "--shapes", "shapes.txt", "--repeat", "1", "--json", "f.json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        with open(self.path("f.json"), encoding="utf-8") as stream:
            found = {(r["name"], r["layout"], tuple(r["shape"])) for r in json.load(stream)}
        self.assertEqual(found, {("a", "nc", (3, 4)), ("b", "ncs", (3, 4, 5))})

    def test_resnet50_has_all_its_norms(self):
        with open(os.path.join(SHAPES, "resnet50.txt"), encoding="ascii") as stream:
            rows = re.findall(r"^\S+ +(ncs|nsc) 32x(\d+)x(\d+)x(\d+) # (\d+)$", stream.read(), re.M)
        # Built here from the network: stem, then four stages of bottlenecks, the stride in the 3x3 convolution.
        norms = [(64, 112)]
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width, side = 64 << stage, 56 >> stage
            for block in range(blocks):
                norms.append((width, side * 2 if block == 0 and stage else side))
                norms += [(width, side), (4 * width, side)]
            norms.append((4 * width, side))
        self.assertEqual(len(norms), 53)
        for layout in ("ncs", "nsc"):
            found = {(int(c), int(h)): int(k) for l, c, h, w, k in rows if l == layout and h == w}
            self.assertEqual(found, {norm: norms.count(norm) for norm in norms})
        self.assertEqual(len(rows), len(layouts_of("resnet50.txt")))

    def test_files_of_other_norms(self):
        """Their lines are taken by the program (explain needs no time), and are of the norms that they are for."""
        for name, norms in (
            ("transformers.txt", {"layer", "rms"}),
            ("unet.txt", {"group"}),
            ("style.txt", {"instance"}),
        ):
            with self.subTest(name=name), open(os.path.join(SHAPES, name), encoding="ascii") as stream:
                text = stream.read()
                self.assertEqual(set(re.findall(r" norm=(\w+)", text)), norms)
                self.assertEqual(text.count(" norm="), len(layouts_of(name)))

    def test_the_other_files(self):
        mlp = [shape for _, _, shape in layouts_of("mlp.txt")]
        self.assertEqual({mlp[0], mlp[-1]}, {(64, 256), (8192, 8192)})
        self.assertTrue(all(len(shape) == 5 for _, _, shape in layouts_of("segmentation3d.txt")))
        few = [shape for _, _, shape in layouts_of("few-channels.txt")]
        self.assertEqual({shape[1] for shape in few}, {1, 3})
        short = {(layout, shape) for _, layout, shape in layouts_of("short-segments.txt")}
        self.assertLessEqual({("ncs", (32, 2048, 7, 7)), ("nsc", (32, 2048, 7, 7))}, short)


class Figures(support.ToolTest):
    def bench(self, *arguments):
        with open(self.path("tiny.txt"), "w", encoding="ascii") as stream:
            stream.write(TINY)
        result = self.clnorm("bench", "--shapes", "tiny.txt", "--repeat", "2", "--json", "bench.json", *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        with open(self.path("bench.json"), encoding="utf-8") as stream:
            return result.stdout, json.load(stream)

    def check_rows(self, rows, modes):
        shapes = {"nc": [37, 19], "ncs": [5, 3, 7, 11], "nsc": [2, 6, 3, 5, 7]}
        self.assertEqual(
            [(r["layout"], r["mode"]) for r in rows], [(layout, mode) for layout in shapes for mode in modes]
        )
        for r in rows:
            for key, kind in REQUIRED.items():
                self.assertIs(type(r[key]), kind, key)
            self.assertEqual((r["norm"], r["dtype"], r["shape"]), ("batch", "f32", shapes[r["layout"]]))
            elements = 1
            for size in r["shape"]:
                elements *= size
            self.assertEqual(r["bytes"], TENSORS[r["mode"]] * 4 * elements)
            self.assertGreater(r["limit_ms"], 0)
            self.assertGreater(r["best_ms"], 0)
            self.assertLessEqual(r["best_ms"], r["median_ms"])
            self.assertEqual(r["ratio"], r["best_ms"] / r["limit_ms"])
            self.assertEqual(r["checked"], r["units"])
            self.assertEqual(r["rounds"], 2)

    def test_every_device(self):
        for device in support.devices():
            with self.subTest(device=device):
                text, rows = self.bench("--device", device)
                self.check_rows(rows, TENSORS)
                self.assertEqual({r["buffers"] for r in rows}, {"cold"})
                for mode in TENSORS:
                    for layout in ("nc", "ncs", "nsc"):
                        ratios = [r["ratio"] for r in rows if (r["mode"], r["layout"]) == (mode, layout)]
                        line = rf"^median ratio of batch +{mode} +{layout} +{statistics.median(ratios):.2f} over 1 case;"
                        self.assertRegex(text, re.compile(line, re.M))
                self.assertNotIn("\033", text)

    def test_every_norm(self):
        with open(self.path("norms.txt"), "w", encoding="ascii") as stream:
            stream.write(NORMS)
        for device in support.devices():
            with self.subTest(device=device):
                result = self.clnorm(
                    "bench", "--device", device, "--shapes", "norms.txt", "--repeat", "2", "--json", "norms.json"
                )
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                with open(self.path("norms.json"), encoding="utf-8") as stream:
                    rows = json.load(stream)
                wanted = []
                for line in NORMS.splitlines():
                    words = dict(word.split("=") for word in line.split()[3:])
                    modes = TENSORS if words["norm"] == "instance" else ("train", "backward")
                    groups, dims = int(words.get("groups", 0)), words["norm"] in ("layer", "rms")
                    dims = int(words.get("dims", dims))
                    wanted += [(words["norm"], groups, dims, line.split()[1], mode) for mode in modes]
                found = [(r["norm"], r["groups"], r["normalized_dims"], r["layout"], r["mode"]) for r in rows]
                self.assertEqual(found, wanted)
                self.assertTrue(all(r["checked"] == r["units"] for r in rows))
                for label in ("layer", "rms2", "group2", "group3", "instance"):
                    self.assertRegex(result.stdout, rf"(?m)^\w+ +{label} +n")

    def test_one_norm_for_all(self):
        for norm, arguments, count in (("group", ["--groups", "1"], 6), ("rms", [], 6), ("instance", [], 9)):
            with self.subTest(norm=norm):
                _, rows = self.bench("--device", "cpu", "--norm", norm, *arguments)
                self.assertEqual([r["norm"] for r in rows], [norm] * count)

    def test_virtual_batches(self):
        """Checked against fp64 before they are timed, the rest of the batch too."""
        with open(self.path("virtual.txt"), "w", encoding="ascii") as stream:
            stream.write("flat nc 37x19 batch=8\nfirst ncs 7x6x5x5 batch=3\nlast nsc 7x6x5x5 batch=1\nall nc 37x19\n")
        for device in support.devices():
            for more, batches in (([], [8, 3, 1, 0]), (["--virtual-batch", "2"], [2] * 4)):
                with self.subTest(device=device, more=more):
                    text, rows = self.bench("--device", device, "--shapes", "virtual.txt", *more)
                    self.assertEqual([r["virtual_batch"] for r in rows], [b for b in batches for _ in TENSORS])
                    self.assertTrue(all(r["checked"] == r["units"] for r in rows))
                    self.assertRegex(text, rf"(?m)^flat +batch{batches[0]} +n")

    def test_types_and_activations(self):
        """Checked against fp64 in their type before they are timed; half the bytes."""
        _, whole = self.bench("--device", "cpu", "--mode", "train")
        for dtype, act in (("f16", "relu"), ("bf16", "silu"), ("f16", "gelu"), ("bf16", "leaky")):
            with self.subTest(dtype=dtype, act=act):
                _, rows = self.bench("--device", "cpu", "--dtype", dtype, "--act", act)
                self.assertEqual({(r["dtype"], r["act"]) for r in rows}, {(dtype, act)})
                half = [2 * r["bytes"] for r in rows if r["mode"] == "train"]
                self.assertEqual(half, [r["bytes"] for r in whole])

    def test_residuals(self):
        """One tensor more, checked against fp64; forward alone. With --unfused each case comes after the norm alone."""
        text, rows = self.bench("--device", "cpu", "--act", "relu", "--residual", "after", "--unfused")
        fused = [(r["layout"], r["mode"]) for r in rows if r["residual"] == "after"]
        self.assertEqual(fused, [(layout, mode) for layout in ("nc", "ncs", "nsc") for mode in ("train", "infer")])
        worst = {}
        for r in (r for r in rows if r["residual"] == "after"):
            (alone,) = [u for u in rows if (u["layout"], u["mode"], u["residual"]) == (r["layout"], r["mode"], "none")]
            self.assertEqual((r["act"], alone["act"]), ("relu", "none"))
            tensor = alone["bytes"] // TENSORS[r["mode"]]
            self.assertEqual(r["bytes"], alone["bytes"] + tensor)
            worst[r["mode"]] = max(worst.get(r["mode"], 0), r["ratio"] / alone["ratio"])
        for mode, factor in worst.items():
            found = re.findall(rf"^{mode} +ratio of the fused call over that of the norm alone: at most (\S+) \(", text, re.M)
            self.assertEqual(found, [f"{factor:.2f}"])

    def test_one_mode_and_warm(self):
        for mode in TENSORS:
            with self.subTest(mode=mode):
                _, rows = self.bench("--device", "cpu", "--mode", mode, "--warm")
                self.check_rows(rows, [mode])
                self.assertEqual({r["buffers"] for r in rows}, {"warm"})

    @support.unittest.skipUnless(support.LONG, "in the long run")
    def test_built_in_shapes(self):
        for device in support.devices():
            with self.subTest(device=device):
                result = self.clnorm("bench", "--device", device, "--repeat", "1", "--json", "quick.json")
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                with open(self.path("quick.json"), encoding="utf-8") as stream:
                    rows = json.load(stream)
                quick = layouts_of("quick.txt")
                found = [(r["name"], r["layout"], tuple(r["shape"])) for r in rows if r["mode"] == "train"]
                self.assertEqual(found, quick)
                self.assertEqual(len(rows), 3 * len(quick))
                self.assertTrue(all(2 <= r["checked"] <= r["units"] for r in rows))


class Usage(support.ToolTest):
    def test_refused(self):
        with open(self.path("huge.txt"), "w", encoding="ascii") as stream:
            stream.write("fits nc 8x8\nhuge nc 1048576x4096\n")
        with open(self.path("ok.txt"), "w", encoding="ascii") as stream:
            stream.write("ok nc 8x8\n")
        cases = [
            (["--shapes", "missing.txt"], r"missing\.txt: No such file"),
            (["--shapes", "."], r"\.: Is a directory"),
            (["--mode", "forward"], r'--mode is "forward" and must be train, infer or backward'),
            (["--mode", ""], r'--mode is "" and must be'),
            (["--norm", "rows"], r"--norm is 'rows'; it must be batch"),
            (["--norm", "group", "--shapes", "ok.txt"], r"ok: --groups is missing"),
            (["--norm", "group", "--groups", "3", "--shapes", "ok.txt"], r"ok: --groups is 3 and must be a divisor"),
            (["--norm", "rms", "--mode", "infer"], r'--mode is "infer"; layer, group and RMS norm do in training'),
            (["--residual", "before"], r"--residual is 'before'; it must be none or after"),
            (["--residual", "after", "--mode", "backward"], r'--mode is "backward"; with --residual it must be train or infer'),
            (["--unfused"], r"--unfused is given; it goes with --act or --residual"),
            (["--from-y"], r"--from-y is given; it goes with --mode backward alone"),
            (["--from-y", "--mode", "backward", "--act", "relu"], r"--from-y is given; it goes with no activation"),
            (["--mask"], r"--mask is given; it goes with --act relu and leaky alone"),
            (["--mask", "--act", "leaky", "--from-y", "--mode", "backward"], r"--mask is given; it does not go with --from-y"),
            (["--repeat", "0"], r"--repeat is 0 and must be from 1"),
            (["--repeat", "-2"], r"--repeat is -2 and must be from 1"),
            (["--repeat", "-1"], r"--repeat is -1 and must be from 1"),
            (["--repeat", "many"], r"many\b"),
            (["--device", "no such device"], r"no such device"),
            (["--warm", "now"], r"now"),
            (["--nothing"], r"--nothing"),
            (["--shapes", "ok.txt", "--json", "no/such/place.json"], r"--json no/such/place\.json: No such file"),
            (["--shapes", "huge.txt"], r"case huge nc 1048576x4096 needs more memory than bench takes"),
        ]
        for arguments, pattern in cases:
            with self.subTest(arguments=arguments):
                if "--device" not in arguments:
                    arguments = ["--device", "cpu", *arguments]
                self.assert_refused(["bench", *arguments], "^clnorm bench: .*" + pattern)

    def test_help(self):
        result = self.clnorm("bench", "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for option in ("--device", "--shapes", "--norm", "--groups", "--normalized-dims", "--virtual-batch", "--mode", "--json", "--repeat", "--warm", "example"):
            self.assertIn(option, result.stdout)


if __name__ == "__main__":
    support.main()
