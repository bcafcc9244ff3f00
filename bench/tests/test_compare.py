"""bench/compare.py, as far as it goes without PyTorch and oneDNN: its options, statistics, tables and pages, the check
against fp64, and a small run of clnorm's contender and NumPy's."""

import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

import numpy as np

BENCH = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCH), str(BENCH / "peers")]

import compare
import compare_report
import compare_run
import peers

BUILD = os.environ["CLNORM_COMPARE_BUILD"]
BATCH = {"norm": "batch"}
CASES = [
    ("plain", "nc", (37, 19), BATCH),
    ("first", "ncs", (5, 3, 7, 11), BATCH),
    ("last", "nsc", (2, 6, 3, 5, 7), BATCH),
    ("one", "nc", (1, 4), BATCH),
]
SHAPES = "".join(f"{name} {layout} {'x'.join(map(str, sizes))} # a comment\n" for name, layout, sizes, _ in CASES)


class Test(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="clnorm-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def run_compare(self, *arguments):
        """In a home without the peers' packages, so that none is found."""
        return subprocess.run(
            [sys.executable, str(BENCH / "compare.py"), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=self.folder,
            env={**os.environ, "XDG_CACHE_HOME": self.folder},
        )


class Usage(Test):
    def test_wrong_input_is_one_sentence(self):
        good = self.write("good.txt", SHAPES)
        page = self.write("page.md", "# A page without marks\n")
        cases = [
            (["--nonsense"], "unrecognized arguments: --nonsense"),
            (["--peers", "torch,jax"], "'jax' is none of torch, onednn"),
            (["--modes", "forward"], "'forward' is none of train, infer, backward"),
            (["--modes", ","], "--modes: the list is empty"),
            (["--devices", ""], "--devices: the list is empty"),
            (["--rounds", "0"], "--rounds: it is '0' and must be a number of at least 1"),
            (["--rounds", "2.5"], "--rounds: it is '2.5'"),
            (["--seconds", "nan"], "--seconds: it is 'nan'"),
            (["--shapes", "none.txt"], "--shapes none.txt: No such file"),
            (["--shapes", "."], "--shapes .: Is a directory"),
            (["--shapes", good, "--page", "none.md"], "--page none.md: No such file"),
            (["--shapes", good, "--page", page], "it has no lines <!-- compare.py good: begin -->"),
        ]
        for text, message in [
            ("a nc\n", "bad.txt:1: a case is at least three words, NAME LAYOUT NxC[xSPATIAL...]; this line has 2"),
            ("# one\na cn 3x4\n", 'bad.txt:2: the layout is "cn"'),
            ("a nc 3x4x5\n", "bad.txt:1: the shape is"),
            ("a ncs 3x4\n", "must be 3 to 5 whole numbers"),
            ("a nc 3x0\n", "must be 2 whole numbers of at least 1"),
            ("a nc 3x-4\n", "must be 2 whole numbers"),
            ("a nc 3x\n", "must be 2 whole numbers"),
            ("a nc 3x²\n", "must be 2 whole numbers"),
            ("a nc 40000x40000\n", "at most 1073741824 elements"),
            (f"a nc 3x{'9' * 5000}\n", "must be 2 whole numbers"),
            ("# nothing\n", "bad.txt: it has no case"),
            ("a nc 3x4 norm=rows\n", 'bad.txt:1: the norm is "rows" and must be batch, layer, group, instance, rms'),
            ("a nc 3x4 batch=2\n", 'bad.txt:1: "batch=2" is no word that is compared'),
            ("a nc 3x4 norm=group\n", "bad.txt:1: groups= goes with group norm alone"),
            ("a nc 3x4 norm=group groups=3\n", "must be a divisor of the 4 channels"),
            ("a nc 3x4 norm=group groups=0\n", '"groups=0" must have a whole number of at least 1'),
            ("a nc 3x4 dims=1\n", "bad.txt:1: dims= goes with layer and RMS norm alone"),
            ("a nc 3x4 norm=layer dims=2\n", "must be fewer than the 2 dimensions"),
        ]:
            name = os.path.join(self.folder, f"{len(cases)}", "bad.txt")
            os.mkdir(os.path.dirname(name))
            self.write(name, text)
            cases.append((["--shapes", name], message))
        for arguments, message in cases:
            with self.subTest(arguments=arguments, message=message):
                run = self.run_compare("--no-install", "--build", BUILD, *arguments)
                self.assertEqual((run.returncode, run.stdout), (2, ""), run.stderr)
                self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
                self.assertTrue(run.stderr.startswith("compare.py: "), run.stderr)
                self.assertIn(message, run.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "out")))

    def test_a_run_has_a_name(self):
        path = self.write("few.txt", SHAPES)
        for more, label in [
            ([], "few"),
            (["--warm"], "few-warm"),
            (["--devices", "Portable,Intel(R) OpenCL"], "few-portable-intel-r--opencl"),
        ]:
            self.assertEqual(compare.read_options(["--shapes", path, *more]).label, label)

    def test_the_shapes_that_come_along_are_read(self):
        norms = set()
        for path in (BENCH / "shapes").glob("*.txt"):
            with self.subTest(path=path.name):
                cases = compare.read_shapes(path)
                self.assertGreater(len(cases), 0)
                norms.update(norm["norm"] for *_, norm in cases)
        self.assertEqual(norms, set(compare.NORMS))


class Report(Test):
    def test_paired(self):
        self.assertEqual(compare_report.paired([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]), 2.0)
        # A round counts only if both took part.
        self.assertEqual(compare_report.paired([6.0, None, 9.0], [2.0, 2.0, None]), 3.0)
        self.assertIsNone(compare_report.paired([None, 1.0], [1.0, None]))

    def rows(self):
        clnorm = argparse.Namespace(kind="clnorm", name="clnorm@cpu", device="cpu")
        peer = argparse.Namespace(kind="onednn", name="onednn", device=None)
        rows = []
        for k, case in enumerate(CASES[:2] + [("second", "ncs", (8, 3, 7, 11), BATCH)]):
            # The machine is twice as slow in the second round; ratios do not see it.
            own, limit = [2e-3 + k * 1e-3, 2 * (2e-3 + k * 1e-3), 2e-3 + k * 1e-3], [1e-3, 2e-3, 1e-3]
            measured = {
                "mode": "train",
                "times": {"clnorm@cpu": own, "onednn": [6e-3, 12e-3, None]},
                "limits": {"cpu": limit},
                "ways": {"cpu": "memcpy"},
                "absent": {"torch": "torch is gone"} if k else {},
                "failed": bool(k),
                "others": 0.2 * k,
                "disturbed": k == 2,
            }
            rows += compare_report.result_rows(case, [measured], [clnorm, peer])
        return rows

    def test_rows_and_tables(self):
        rows = self.rows()
        self.assertEqual([row["ratio"] for row in rows], [2.0, 3.0, 4.0])
        self.assertEqual([row["peers"]["onednn"]["times_faster"] for row in rows], [3.0, 2.0, 1.5])
        self.assertEqual([row["peers"]["onednn"]["rounds"] for row in rows], [2, 2, 2])
        self.assertEqual(
            compare_report.summary(rows).splitlines()[2:],
            [
                "| train | (n, c) | 2.00 (2.00) | 3.00 (3.00) |",
                "| train | channels-first | 3.50 (4.00) | 1.75 (1.50) |",
            ],
        )
        self.assertIn(
            "| 5×3×7×11 | channels-first | train | 1.00 | 3.00 | 3.00 | 9.00 (×2.00) |", compare_report.details(rows)
        )
        rows[0]["norm"] = "layer"
        self.assertIn("| layer train | (n, c) | 2.00 (2.00) | 3.00 (3.00) |", compare_report.summary(rows))
        rows[0]["norm"] = "batch"
        self.assertEqual(
            compare_report.absences(rows, ["NumPy is missing."]),
            [
                "NumPy is missing.",
                "torch is gone (first ncs 5x3x7x11 train and 1 more)",
                f"{compare_report.DISTURBED} (second ncs 8x3x7x11 train)",
            ],
        )

    def test_a_block_of_a_page(self):
        other = "<!-- compare.py y: begin -->\n<!-- compare.py y: end -->\n"
        page = f"a\n<!-- compare.py x: begin -->\nold\n<!-- compare.py x: end -->\nb\n{other}"
        once = compare_report.replace_block(page, "x", "new\n")
        self.assertNotIn("old", once)
        self.assertTrue(once.startswith("a\n<!-- compare.py x: begin -->\n\nnew\n"), once)
        self.assertTrue(once.endswith("end -->\nb\n<!-- compare.py y: begin -->\n<!-- compare.py y: end -->\n"), once)
        self.assertEqual(compare_report.replace_block(once, "x", "new\n"), once)
        self.assertIsNone(compare_report.replace_block(page, "z", "new"))

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_plot(self):
        path = os.path.join(self.folder, "it's.svg")
        self.assertIsNone(compare_report.write_plot(self.rows(), "A 'title'", path))
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        for word in ("A 'title'", "oneDNN", "clnorm", "train, channels-first", "5×3×7×11"):
            self.assertIn(word.replace("'", "&#39;"), text.replace("'", "&#39;"))


class Check(Test):
    """The check against fp64 sees one wrong value in every output."""

    def outputs(self, layout, sizes, inputs, mode):
        peer = peers.NumPy()
        names = ("x", "dy", "weight", "bias", "running_mean", "running_var")
        peer.begin(layout, sizes, BATCH, dict(zip(names, inputs, strict=True)), 1)
        if mode == "backward":
            peer.train(0)
        return np.concatenate([peer.flat(value) for value in getattr(peer, mode)(0).values()])

    def test_every_output(self):
        for _, layout, sizes, norm in CASES:
            elements, c = math.prod(sizes), sizes[1]
            inputs = compare_run.make_inputs(sizes, c, 1)
            reference = compare_run.reference_of(layout, sizes, norm, inputs)
            for mode in compare_run.MODES:
                good = self.outputs(layout, sizes, inputs, mode)
                self.assertIsNone(reference.complaint(mode, good), (layout, sizes, mode))
                places = (
                    {"dx": elements - 1, "dweight": elements, "dbias": elements + 2 * c - 1}
                    if mode == "backward"
                    else {"y": 0}
                )
                for name, place in places.items():
                    for damage in (1.01 * good[place] + 0.01, np.nan, np.inf):
                        bad = good.copy()
                        bad[place] = damage
                        with self.subTest(layout=layout, sizes=sizes, mode=mode, name=name, damage=damage):
                            self.assertRegex(str(reference.complaint(mode, bad)), f"^{name} of channel ")
                self.assertIn("must be", reference.complaint(mode, good[:-1]))

    def test_large_tensors_are_checked_in_part(self):
        inputs = compare_run.make_inputs((4, 5, 1 << 20), 5, 1)
        reference = compare_run.Reference("ncs", (4, 5, 1 << 20), inputs)
        self.assertEqual(list(reference.channels), [0, 4])
        reference = compare_run.SamplesReference("ncs", (4, 5, 1 << 20), {"norm": "instance"}, inputs)
        self.assertEqual(list(reference.rows), [0, 6, 12, 19])

    def test_norms_within_samples(self):
        """clnorm agrees with the reference of every norm, which sees one wrong value in every output."""
        contender = compare_run.Contender("clnorm", [os.path.join(BUILD, "bench/peers/compare-clnorm"), "cpu"], "cpu")
        self.addCleanup(contender.close)
        for norm in (
            {"norm": "layer"},
            {"norm": "layer", "dims": 2},
            {"norm": "rms"},
            {"norm": "group", "groups": 3},
            {"norm": "instance"},
        ):
            for layout, sizes in (("ncs", (4, 12, 5, 7)), ("nsc", (4, 12, 5, 7))):
                weights = compare_run.weights_of(layout, sizes, norm)
                inputs = compare_run.make_inputs(sizes, weights, 1)
                with open(os.path.join(self.folder, "inputs"), "wb") as stream:
                    for values in inputs:
                        values.tofile(stream)
                words = ",".join(f"{key}={value}" for key, value in norm.items())
                contender.ask(f"case 1 {layout} {'x'.join(map(str, sizes))} {words} {self.folder}")
                reference = compare_run.reference_of(layout, sizes, norm, inputs)
                self.assertEqual("infer" in reference.expected, norm["norm"] == "instance")
                for mode in reference.expected:
                    contender.ask(f"check {mode}")
                    good = np.fromfile(os.path.join(self.folder, "outputs"), np.float32)
                    self.assertIsNone(reference.complaint(mode, good), (norm, layout, mode))
                    elements = math.prod(sizes)
                    places = {"y": elements - 1}
                    if mode == "backward":
                        places = {"dx": 3, "dweight": elements + weights - 1, "dbias": elements + weights}
                    for name, place in places.items():
                        bad = good.copy()
                        bad[place] += 0.01 * (1 + abs(good[place]))
                        with self.subTest(norm=norm, layout=layout, mode=mode, name=name):
                            self.assertRegex(str(reference.complaint(mode, bad)), f"^{name} of (group|weight) ")
                    self.assertIn("must be", reference.complaint(mode, good[:-1]))


class Turn:
    """Stands for a contender: answers from lists of seconds, each answer with the seconds it waited for a processor."""

    def __init__(self, kind, answers, limits=(), device=None):
        self.kind, self.device, self.name = kind, device, kind
        self.answers, self.limits = list(answers), list(limits)
        self.total = 0.0
        self.log = []

    def waited(self):
        return self.total

    def used(self):
        return 0.0

    def ask(self, line):
        self.log.append(line)
        if line.startswith("limit"):
            return f"{self.limits.pop(0)} memcpy"
        seconds, waited = self.answers.pop(0)
        self.total += waited
        return seconds


class Turns(Test):
    def test_a_turn_that_waited_is_taken_again(self):
        contender = Turn("x", [("9 8", 1.0), ("3 4", 0.0), ("1", 0.0)])
        self.assertEqual(compare_run.sample(contender, "train"), 3.0)
        # It may be its own threads that wait for each other's processors.
        always = Turn("x", [("5", 1.0)] * 10)
        self.assertEqual(compare_run.sample(always, "train"), 5.0)
        self.assertEqual(len(always.log), compare_run.TURNS_MAX)

    def test_rounds(self):
        ours = Turn("clnorm", [("2 3", 0.0), ("4", 0.0), ("6", 0.0)], [1.0, 0.5, 3.0, 4.0, 2.0, 2.0], "cpu")
        peer = Turn("torch", [("8", 0.0), ("9", 0.0), ("10", 0.0)])
        times, limits, ways = compare_run.take_turns([ours, peer], "infer", 3, 100)
        self.assertEqual(times, {"clnorm": [2.0, 4.0, 6.0], "torch": [8.0, 9.0, 10.0]})
        self.assertEqual((limits, ways), ({"cpu": [0.5, 3.0, 2.0]}, {"cpu": "memcpy"}))
        self.assertEqual(ours.log, ["limit infer", "time infer", "limit infer"] * 3)

    def test_a_slow_peer_sits_out(self):
        rounds = compare_run.ROUNDS_MIN + 2
        ours = Turn("clnorm", [("2", 0.0)] * rounds, [1.0] * 2 * rounds, "cpu")
        peer = Turn("torch", [("8", 0.0)] * rounds)
        # A clock that only the peer's turns move on: by a second each, of 4 seconds for both.
        clock = unittest.mock.Mock(side_effect=lambda: float(peer.log.count("time infer")))
        with unittest.mock.patch.object(compare_run.time, "monotonic", clock):
            times, _, _ = compare_run.take_turns([ours, peer], "infer", rounds, 4.0)
        self.assertEqual(times["torch"], [8.0] * compare_run.ROUNDS_MIN + [None] * 2)
        self.assertEqual(times["clnorm"], [2.0] * rounds)

    def test_a_busy_machine_is_told(self):
        ours = Turn("clnorm", [("2", 0.0)] * 9, [1.0] * 18, "cpu")
        options = argparse.Namespace(rounds=1, seconds=1.0)
        seconds = iter([0.0, 50.0, 100.0, 100.0])
        with unittest.mock.patch.object(compare_run, "others_seconds", lambda contenders: next(seconds)):
            _, others = compare_run.take_quiet_turns([ours], "train", options)
        self.assertEqual(others, 0.0)
        seconds = iter(range(0, 1000, 10))
        with unittest.mock.patch.object(compare_run, "others_seconds", lambda contenders: next(seconds)):
            _, others = compare_run.take_quiet_turns([ours], "train", options)
        self.assertGreater(others, compare_run.OTHERS_SHARE)


WRONG = """
import sys
sys.path.insert(0, {peers!r})
import peers

class Wrong(peers.NumPy):
    def train(self, i):
        return {{"y": super().train(i)["y"] * 1.001}}

    def infer(self, i):
        if i:
            raise SystemExit(3)
        return super().infer(i)

print("ready wrong", flush=True)
worker = peers.Worker(Wrong())
for line in sys.stdin:
    print("ok", worker.answer(line.rstrip()), flush=True)
"""


class Run(Test):
    def test_clnorm_and_numpy(self):
        out = os.path.join(self.folder, "out")
        page = self.write(
            "page.md", "# Page\n\n<!-- compare.py shapes: begin -->\n<!-- compare.py shapes: end -->\n\nThe end.\n"
        )
        run = self.run_compare(
            "--no-install",
            "--build",
            BUILD,
            "--shapes",
            self.write("shapes.txt", SHAPES),
            "--peers",
            "numpy",
            "--rounds",
            "2",
            "--seconds",
            "0.1",
            "--out",
            out,
            "--page",
            page,
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(os.path.join(out, "comparison.json"), encoding="utf-8") as stream:
            result = json.load(stream)
        want = [(name, layout, list(sizes), mode) for name, layout, sizes, _ in CASES for mode in compare_run.MODES]
        rows = result["rows"]
        self.assertEqual([(r["name"], r["layout"], r["shape"], r["mode"]) for r in rows], want)
        for row in rows:
            self.assertEqual((row["device"], row["rounds"], row["absent"], row["failed"]), ("cpu", 2, [], False))
            for value in (row["clnorm_ms"], row["limit_ms"], row["ratio"], *row["peers"]["numpy"].values()):
                self.assertGreater(value, 0)
        self.assertRegex(result["contenders"][0], r"^clnorm .* on cpu \(cpu\)$")
        self.assertRegex(result["contenders"][1], r"^NumPy \d")
        with open(os.path.join(out, "comparison.md"), encoding="utf-8") as stream:
            text = stream.read()
        self.assertIn("× faster than NumPy", text)
        with open(page, encoding="utf-8") as stream:
            page = stream.read()
        self.assertIn("| 37×19 | (n, c) | backward |", page)
        self.assertTrue(page.endswith("<!-- compare.py shapes: end -->\n\nThe end.\n"))
        self.assertEqual(
            shutil.which("gnuplot") is not None,
            os.path.exists(os.path.join(self.folder, "images/comparison-shapes-cpu.svg")),
        )

    def test_who_is_missing_is_told(self):
        run = self.run_compare(
            "--no-install",
            "--build",
            BUILD,
            "--shapes",
            self.write("one.txt", "one nc 3x4\n"),
            "--peers",
            "torch,dlprimitives",
            "--devices",
            "cpu,nonsense",
            "--modes",
            "infer",
            "--rounds",
            "1",
            "--warm",
            "--out",
            self.folder,
        )
        self.assertEqual(run.returncode, 1)
        for sentence in (
            "torch is not measured: it is not installed (scripts/install-deps.sh torch)",
            "dlprimitives is not measured: ",
            'clnorm@nonsense: clnorm_device_open: name is "nonsense"',
        ):
            self.assertIn(sentence, run.stderr)
            self.assertIn(sentence, run.stdout)
        self.assertIn("| 3×4 | (n, c) | infer |", run.stdout)

    def test_who_is_wrong_or_dies_is_told_and_not_timed(self):
        script = self.write("wrong.py", WRONG.format(peers=str(BENCH / "peers")))
        options = argparse.Namespace(warm=False, modes=compare_run.MODES, rounds=2, seconds=0.1)
        clnorm = compare_run.Contender("clnorm", [os.path.join(BUILD, "bench/peers/compare-clnorm"), "cpu"], "cpu")
        self.addCleanup(clnorm.close)
        wrong = compare_run.Contender("numpy", [sys.executable, script])
        self.addCleanup(wrong.close)
        train, infer, backward = compare_run.measure(
            [clnorm, wrong], ("a", "ncs", (4, 3, 5), BATCH), options, lambda mode: None
        )
        self.assertRegex(
            train["absent"]["numpy"], "^numpy is wrong: y of channel 0 is .* where the fp64 reference has "
        )
        self.assertEqual(list(train["times"]), ["clnorm@cpu"])
        self.assertEqual(infer["absent"], {"numpy": "numpy ended with exit code 3"})
        self.assertEqual(len(infer["times"]["clnorm@cpu"]), 2)
        self.assertIn("numpy", backward["absent"])
        self.assertTrue(train["failed"] and infer["failed"] and backward["failed"])
        self.assertEqual(backward["ways"].keys(), {"cpu"})

    def test_a_contender_refuses_nonsense(self):
        programs = [
            [os.path.join(BUILD, "bench/peers/compare-clnorm"), "cpu"],
            [sys.executable, str(BENCH / "peers/peers.py"), "numpy"],
        ]
        for command in programs:
            contender = compare_run.Contender("x", command)
            self.addCleanup(contender.close)
            for line in ("time train", "nonsense", "", "case 1 nc", f"case 1 nc 3x4 norm=batch {self.folder}/none"):
                with self.subTest(command=command[0], line=line), self.assertRaises(compare_run.ContenderError):
                    contender.ask(line)
            self.assertTrue(contender.alive())


if __name__ == "__main__":
    unittest.main()
