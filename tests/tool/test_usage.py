"""Help texts, and wrong usage of every kind: one line on stderr, exit code 2, nothing written."""

import os
import shlex

import numpy as np

import support

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
SUBCOMMANDS = ["devices", "run", "parity", "gradcheck", "bench", "tune", "explain", "demo"]


class Help(support.ToolTest):
    def succeed(self, *arguments):
        result = self.clnorm(*arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
        return result.stdout

    def test_golden(self):
        for name in ("run", "devices", "gradcheck", "tune", "explain"):
            with self.subTest(name=name), open(os.path.join(GOLDEN, name + ".txt"), encoding="utf-8") as stream:
                self.assertEqual(self.succeed(name, "--help"), stream.read())

    def test_list_of_subcommands(self):
        text = self.succeed("--help")
        self.assertEqual(self.succeed("-h"), text)
        self.assertTrue(text.startswith("usage: clnorm SUBCOMMAND [options]\n"), text)
        self.assertEqual([line.split()[0] for line in text.split("\n") if line.startswith("  ")], SUBCOMMANDS)
        self.assertRegex(self.succeed("--version"), r"^clnorm \d+\.\d+\.\d+\n$")

    def test_every_subcommand(self):
        for name in SUBCOMMANDS:
            with self.subTest(name=name):
                text = self.succeed(name, "--help")
                self.assertTrue(text.startswith(f"usage: clnorm {name}"), text)
                self.assertRegex(text, rf"\nexample:\n  clnorm {name} ")
                self.assertEqual(self.succeed(name, "-h"), text)
                for line in text.split("\n"):
                    self.assertLessEqual(len(line), 120, line)

    def test_examples_work(self):
        self.save("x.npy", np.arange(12).reshape(3, 4))
        for name in ("run", "devices", "gradcheck", "explain"):
            with self.subTest(name=name):
                example = self.succeed(name, "--help").rstrip("\n").split("\n")[-1]
                program, *arguments = shlex.split(example)
                self.assertEqual(program, "clnorm")
                self.assertNotEqual(self.succeed(*arguments), "")


class WrongUsage(support.ToolTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        self.save("x.npy", rng.normal(size=(3, 4)))
        self.save("x3.npy", rng.normal(size=(3, 4, 5)))
        self.save("x6.npy", np.zeros((1, 2, 1, 1, 1, 1)))
        self.save("number.npy", 3.0)
        self.save("no_channels.npy", np.zeros((3, 0)))
        self.save("no_positions.npy", np.zeros((3, 4, 0)))
        self.save("four.npy", np.ones(4))
        self.save("five.npy", np.ones(5))
        self.save("column.npy", np.ones((4, 1)))

    def refuse(self, pattern, *arguments):
        with self.subTest(arguments=arguments):
            self.assert_refused(arguments, pattern)
            self.assertFalse(os.path.exists(self.path("out")))

    def refuse_run(self, pattern, mode="train", layout="nc", x="x.npy", **options):
        out = options.pop("out", "out")
        arguments = support.flatten({"mode": mode, "layout": layout, "x": x, "device": "cpu", "out": out, **options})
        self.refuse("^clnorm run: " + pattern, "run", *arguments)

    def test_subcommands(self):
        self.refuse("^clnorm: a subcommand is missing")
        self.refuse("^clnorm: frobnicate: no such subcommand", "frobnicate")
        self.refuse("^clnorm: --frobnicate: no such subcommand", "--frobnicate")
        self.refuse("^clnorm: : no such subcommand", "")

    def test_options(self):
        self.refuse_run("--frobnicate: unknown option", frobnicate=True)
        self.refuse("^clnorm run: extra: no such operand", "run", "--mode", "train", "extra")
        for option in ("norm", "groups", "normalized-dims", "mode", "layout", "x", "dy", "weight", "bias", "running-mean", "running-var", "eps"):
            self.refuse(f"^clnorm run: --{option}: missing argument", "run", "--" + option)
        for option in ("momentum", "variance", "average", "count", "device", "out"):
            self.refuse(f"^clnorm run: --{option}: missing argument", "run", "--" + option)
        self.refuse("^clnorm run: --frozen=1: option does not take an argument", "run", "--frozen=1")

    def test_missing_options(self):
        self.refuse_run("--mode is missing", mode=None)
        self.refuse_run("--layout is missing", layout=None)
        self.refuse_run("--x is missing", x=None)
        self.refuse_run("--out is missing", out=None)
        self.refuse_run("--dy is missing", mode="backward")
        self.refuse_run("--running-mean and --running-var are missing; --mode infer", mode="infer")
        both = "--running-mean and --running-var are missing"
        self.refuse_run(both + "; --frozen", mode="backward", dy="x.npy", frozen=True)
        self.refuse_run("--running-var is missing", running_mean="four.npy")
        self.refuse_run("--running-mean is missing", running_var="four.npy")
        self.refuse_run("--count is missing", average="cumulative")

    def test_options_that_do_not_go_together(self):
        running = {"running_mean": "four.npy", "running_var": "four.npy"}
        self.refuse_run("--dy is given", dy="x.npy")
        self.refuse_run("--dy is given", mode="infer", dy="x.npy", **running)
        self.refuse_run("--frozen is given", frozen=True)
        self.refuse_run("--frozen is given", mode="infer", frozen=True, **running)
        self.refuse_run("--running-mean and --running-var are given", mode="backward", dy="x.npy", **running)
        self.refuse_run("--count is given", count=3)

    def test_names(self):
        self.refuse_run("--norm is 'Layer'; it must be batch, layer, group, instance or rms", norm="Layer")
        self.refuse_run("--mode is 'Train'; it must be train, infer or backward", mode="Train")
        self.refuse_run("--mode is ''; it must be", mode="")
        self.refuse_run("--layout is 'nhwc'; it must be nc, ncs or nsc", layout="nhwc")
        self.refuse_run("--variance is 'both'; it must be biased or unbiased", variance="both")
        self.refuse_run("--average is 'median'; it must be exponential or cumulative", average="median")
        self.refuse_run("--device.*no such device", device="no such device")

    def test_numbers(self):
        for text in ("", "x", "1e", "1e-5x", " 1", "1 ", "1,5", "--1", "1e60", "1e-60", "0x"):
            self.refuse_run("--eps is '.*'; it must be a number", eps=text)
        for text in ("nan", "inf", "-1", "-1e-30"):
            self.refuse_run(r".*eps.*\(CLNORM_E_EPS\)", eps=text)
        for text in ("-0.1", "1.0001", "nan", "inf", "-inf"):
            self.refuse_run(r"--momentum is .*; it must be in \[0, 1\]", momentum=text)
        self.refuse_run("--momentum is 'much'; it must be a number", momentum="much")
        for text in ("-1", "1.5", "", " 1", "+1", "0x10", "18446744073709551616"):
            self.refuse_run("--count is '.*'; it must be a whole number", average="cumulative", count=text)

    def test_shapes(self):
        self.refuse_run("x3.npy: it has 3 dimensions; in layout nc it must have 2", x="x3.npy")
        self.refuse_run("x.npy: it has 2 dimensions; in layout ncs it must have 3 to 5", layout="ncs")
        self.refuse_run("x6.npy: it has 6 dimensions; in layout nsc it must have 3 to 5", layout="nsc", x="x6.npy")
        self.refuse_run("number.npy: it has 0 dimensions", x="number.npy")
        self.refuse_run(r".*\(CLNORM_E_SHAPE\)", x="no_channels.npy")
        self.refuse_run(r".*\(CLNORM_E_SHAPE\)", layout="ncs", x="no_positions.npy")
        self.refuse_run(r".*\(CLNORM_E_SHAPE\)", layout="nsc", x="no_positions.npy")
        self.refuse_run(
            r"x3.npy: the shape of dy is \(3, 4, 5\); it must be \(3, 4\)", mode="backward", dy="x3.npy"
        )
        for option in ("weight", "bias"):
            self.refuse_run(rf"five.npy: the shape of {option} is \(5,\); it must be \(4,\)", **{option: "five.npy"})
            self.refuse_run(rf"column.npy: the shape of {option} is \(4, 1\)", **{option: "column.npy"})
            self.refuse_run(rf"number.npy: the shape of {option} is \(\); it must be \(4,\)", **{option: "number.npy"})
        self.refuse_run(
            "five.npy: the shape of running-mean", mode="infer", running_mean="five.npy", running_var="four.npy"
        )
        self.refuse_run(
            "five.npy: the shape of running-var", mode="infer", running_mean="four.npy", running_var="five.npy"
        )

    def test_norms(self):
        dims = "it goes with layer and RMS norm alone, and this is"
        self.refuse_run("--groups is missing; group norm needs", norm="group")
        self.refuse_run("--groups is given; it goes with group norm alone, and this is batch norm", groups=2)
        self.refuse_run("--groups is given; .* this is layer norm", norm="layer", groups=2)
        self.refuse_run(f"--normalized-dims is given; {dims} group norm", norm="group", groups=2, normalized_dims=1)
        self.refuse_run(f"--normalized-dims is given; {dims} batch norm", normalized_dims=1)
        batch = "--virtual-batch is given; it goes with batch norm alone, and this is"
        self.refuse_run(f"{batch} instance norm", norm="instance", layout="ncs", x="x3.npy", virtual_batch=2)
        self.refuse_run(f"{batch} layer norm", norm="layer", virtual_batch=2)
        self.refuse_run("--groups is 3 and must be a divisor of the 4 channels", norm="group", groups=3)
        self.refuse_run("--normalized-dims is 2 and must be from 1 to 1", norm="layer", normalized_dims=2)
        self.refuse_run(
            "--normalized-dims is 3 and must be from 1 to 2", norm="rms", layout="ncs", x="x3.npy", normalized_dims=3
        )
        for text in ("0", "-1", "1.5", "", " 1", "x", "99999999999999999999"):
            self.refuse_run("--groups is '.*'; it must be a whole number from 1", norm="group", groups=text)
            self.refuse_run("--normalized-dims is '.*'; it must be a whole number", norm="rms", normalized_dims=text)
            self.refuse_run("--virtual-batch is '.*'; it must be a whole number from 1", virtual_batch=text)
        running = {"running_mean": "four.npy", "running_var": "four.npy"}
        for norm in ("layer", "rms"):
            self.refuse_run("running statistics are given; batch and instance norm alone", norm=norm, **running)
            self.refuse_run("--mode is infer; this norm does the same", norm=norm, mode="infer")
            self.refuse_run("--frozen is given; batch and instance norm", norm=norm, mode="backward", dy="x.npy", frozen=True)
        shape = r"four.npy: the shape of weight is \(4,\); it must be \(5,\)"
        self.refuse_run(shape, norm="layer", layout="ncs", x="x3.npy", weight="four.npy")
        shape = r"five.npy: the shape of bias is \(5,\); it must be \(4, 5\)"
        self.refuse_run(shape, norm="layer", layout="ncs", x="x3.npy", normalized_dims=2, bias="five.npy")

    def test_lines_stay_one(self):
        self.refuse_run("no such file: ", x="no\nsuch\rfile")
        self.refuse_run("--mode is 'a b'", mode="a\nb")
        self.refuse_run("x{400}: it cannot be read: File name too long$", x="x" * 5000)


if __name__ == "__main__":
    support.main()
