"""clnorm gradcheck: the stream is NumPy's, the fp64 reference agrees with NumPy, wrong gradients are found, every device passes."""

import os
import re
import subprocess
import unittest

import numpy as np

import support
from norms import NORMS, Norm
from test_fused import ACTIVATIONS, from_file, to_file

PARTS = os.environ["CLNORM_GRADCHECK_PARTS"]
NUMBER = r"(\d\.\d\de[-+]\d\d)"
LAYOUTS = [
    "nc (5, 4)",
    "ncs (5, 4, 3)",
    "ncs (5, 4, 3, 2)",
    "ncs (5, 4, 2, 3, 2)",
    "nsc (5, 3, 4)",
    "nsc (5, 3, 2, 4)",
    "nsc (5, 2, 3, 2, 4)",
]


PLAIN = ("-", "-", "-")
# Beside the norm alone, one in each layout: activation, z, and z where z can be added before the norm.
FUSED = [
    ("relu", "after", "after"),
    ("leaky", "-", "-"),
    ("gelu", "after", "after"),
    ("silu", "-", "before"),
    ("-", "after", "after"),
    ("gelu", "-", "before"),
    ("relu", "-", "before"),
]
SECOND = {"gelu": (0.798, 24), "silu": (0.5, 14)}  # max|act''|, and what working act' out costs, in u


def ways(act):
    """How backward knows the gradient of the activation."""
    return {"-": ["-"], "relu": ["x", "y"], "leaky": ["x", "y"]}.get(act, ["x"])


def layouts_rows(layout, norms, act, z):
    """The rows of the table for a layout, each norm with the same fusion: (label, layout, statistics, fusion)."""
    dims = layout.count(",")
    for norm in norms:
        for way in ways(act):
            fusion = (act, z, way)
            if norm in ("layer", "rms"):
                yield from ((norm + (str(k) if k > 1 else ""), layout, "own", fusion) for k in range(1, dims + 1))
            elif z != "before":
                yield (norm + "2" * (norm == "group"), layout, "own", fusion)
                if norm != "group":
                    yield (norm, layout, "frozen", fusion)


def fused_rows(norms):
    for norm in norms:
        rows = norm in ("layer", "rms")
        for i, (layout, (act, z, z_of_rows)) in enumerate(zip(LAYOUTS, FUSED)):
            dims = 1 + i % layout.count(",")
            label = norm + (str(dims) if rows and dims > 1 else "2" * (norm == "group"))
            for statistics in ("own", "frozen") if norm in ("batch", "instance") else ("own",):
                yield from ((label, layout, statistics, (act, z_of_rows if rows else z, way)) for way in ways(act))


def all_rows(norms):
    for layout in LAYOUTS:
        yield from layouts_rows(layout, norms, "-", "-")
    yield from fused_rows(norms)


def double_rows(norms):
    """Of the table of the double backward: (label, layout, statistics)."""
    for layout in LAYOUTS if "batch" in norms else []:
        yield from (("batch", layout, statistics) for statistics in ("own", "frozen"))
    for layout in LAYOUTS if "layer" in norms else []:
        yield from (("layer" + (str(k) if k > 1 else ""), layout, "own") for k in range(1, layout.count(",") + 1))


def norm_of(label, layout):
    """Of a row of the table. "layer2", "nsc (5, 3, 4)" """
    norm = label.rstrip("0123456789")
    shape = [int(size) for size in re.findall(r"\d+", layout)]
    dims = int(label[len(norm) :] or 1)
    return Norm(norm, layout.split()[0], 5, 4, int(np.prod(shape)) // 20, length=int(np.prod(shape[-dims:])))


class Parts(unittest.TestCase):
    def test_stream_is_numpys(self):
        for seed in (42, 0, 1, 2**32 - 1):
            with self.subTest(seed=seed):
                text = subprocess.run([PARTS, "stream", str(seed), "5000"], check=True, stdout=subprocess.PIPE).stdout
                got = np.array([float.fromhex(line) for line in text.decode().split()])
                np.random.seed(seed)
                np.testing.assert_array_equal(got, np.random.randn(5000))

    def test_reference_is_numpys(self):
        for layout, s in (("nc", 1), ("ncs", 6), ("nsc", 6)):
            lengths = [4] if s == 1 else [2, 6, 24] if layout == "ncs" else [4, 8, 24]
            problems = [Norm(norm, layout, 5, 4, s) for norm in ("batch", "instance")]
            problems += [Norm("group", layout, 5, 4, s, groups=groups) for groups in (1, 2, 4)]
            problems += [Norm(norm, layout, 5, 4, s, length=length) for norm in ("layer", "rms") for length in lengths]
            for p in problems:
                with self.subTest(norm=p.norm, layout=layout, groups=p.groups, length=p.length):
                    numbers = (NORMS.index(p.norm), ["nc", "ncs", "nsc"].index(layout), 5, 4, s, p.groups, p.length)
                    run = [PARTS, "reference", *map(str, numbers)]
                    text = subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout.decode()
                    got = [np.array([float.fromhex(value) for value in line.split()]) for line in text.splitlines()]
                    np.random.seed(42)
                    sizes = (20 * s, p.weights, p.weights, 20 * s)
                    x, weight, bias, dy = (np.random.randn(size) for size in sizes)
                    x, dy, weight, bias = p.tensor(x), p.tensor(dy), p.weight(weight), p.weight(bias)
                    mean, var = p.statistics(x)
                    rstd = 1 / np.sqrt(var + 1e-3)
                    dx, dweight, dbias = p.gradients(x, dy, weight, mean, rstd, False)[0]
                    y = p.flat((x - mean) * rstd * weight + bias)
                    for mine, its in zip((mean.reshape(-1), var.reshape(-1), y, p.flat(dx), dweight, dbias), got):
                        np.testing.assert_allclose(its, mine, rtol=1e-12, atol=1e-12)

    def test_wrong_gradients_are_found(self):
        result = subprocess.run([PARTS, "compare"], check=False, stdout=subprocess.PIPE)
        self.assertEqual((result.returncode, result.stdout), (0, b""))

    def test_wrong_gradients_of_fusions_are_found(self):
        result = subprocess.run([PARTS, "fusions"], check=False, stdout=subprocess.PIPE)
        self.assertEqual((result.returncode, result.stdout), (0, b""))


def exercise_b3():
    """The three lines of the exercise by NumPy: closed form against central differences."""
    np.random.seed(42)
    n, d, eps, step = 5, 4, 1e-5, 1e-5
    x, gamma, beta, dout = np.random.randn(n, d), np.random.randn(d), np.random.randn(d), np.random.randn(n, d)

    def loss(xs, gammas, betas):
        xhat = (xs - xs.mean(0)) / np.sqrt(xs.var(0) + eps)
        return np.sum(dout * (gammas * xhat + betas))

    def numeric(which):
        arrays = [x.copy(), gamma.copy(), beta.copy()]
        flat, gradient = arrays[which].reshape(-1), []
        for i, old in enumerate(flat.copy()):
            flat[i] = old + step
            above = loss(*arrays)
            flat[i] = old - step
            gradient.append((above - loss(*arrays)) / (2 * step))
            flat[i] = old
        return np.reshape(gradient, arrays[which].shape)

    rstd = 1 / np.sqrt(x.var(0) + eps)
    xhat = (x - x.mean(0)) * rstd
    dgamma, dbeta = (dout * xhat).sum(0), dout.sum(0)
    dx = gamma * rstd * (dout - dbeta / n - xhat * dgamma / n)
    return [np.max(np.abs(got - numeric(i))) for i, got in enumerate((dx, dgamma, dbeta))]


def rounded(values, dtype):
    return from_file(to_file(values, dtype), dtype)


def bounds(label, layout, statistics, fusion, dtype="f32"):
    """The contract's bounds for dx, dweight, dbias and dz, and the gradients, from the same stream by NumPy."""
    p, (act, add, _), frozen = norm_of(label, layout), fusion, statistics == "frozen"
    np.random.seed(42)
    elements = 20 * p.s
    draw = lambda size, kind: rounded(np.random.randn(size), kind)
    x, weight, bias, dy = draw(elements, dtype), draw(p.weights, "f32"), draw(p.weights, "f32"), draw(elements, dtype)
    if frozen:
        mean, var = p.weight(draw(4, "f32")), p.weight(np.float32(0.5 + np.abs(draw(4, "f32"))))
    z = draw(elements, dtype) if add != "-" else np.zeros(elements)
    if add == "before":
        x = rounded(x + z, dtype)
    x, dy, z, weight, bias = p.tensor(x), p.tensor(dy), p.tensor(z), p.weight(weight), p.weight(bias)
    if not frozen:
        mean, var = p.statistics(x)
    rstd = 1 / np.sqrt(var + np.float64(np.float32(1e-5)))
    xhat = (x - mean) * rstd
    largest = np.abs(xhat).max(p.axes, keepdims=True)
    t = weight * xhat + bias + (z if add == "after" else 0)
    t_off = 16 * largest * np.abs(weight) + np.abs(weight * xhat) + np.abs(weight * xhat + bias)
    t_off = support.U * (t_off + (np.abs(t) if add == "after" else 0))
    slope = 0 * t + 1 if act == "-" else np.where(t > 0, 1, 0.01) if act == "leaky" else ACTIVATIONS[act][1](t)
    if act in SECOND:
        off = np.abs(dy) * (SECOND[act][0] * t_off + support.U * (SECOND[act][1] + np.abs(slope)))
    elif act == "-":
        off = 0 * dy
    else:
        lost = 2.0**-25 if dtype == "f16" else 0
        other = np.float64(np.float32(0.01)) if act == "leaky" else 0
        kink = (np.abs(t) <= t_off) | ((t > 0) & (t <= t_off + lost))
        off = np.abs(dy) * (kink * (1 - other) + support.U * other)
    gradients, sizes = p.gradients(x, dy * slope, weight, mean, rstd, frozen)
    spread = lambda values: 0 if frozen else values.mean(p.axes, keepdims=True)
    moved = np.abs(weight) * off + (0 if p.norm == "rms" else spread(np.abs(weight) * off))
    moved = moved + np.abs(xhat) * spread(np.abs(weight * xhat) * off)
    limits = [factor * support.U * size for factor, size in zip((32, 16, 16), sizes)]
    limits[0] = limits[0] + rstd * moved
    limits[1] = limits[1] + (off * np.abs(xhat)).sum(p.others).reshape(-1)
    limits[2] = limits[2] + off.sum(p.others).reshape(-1)
    limits.append(off)
    if dtype != "f32":  # half a unit of the value that is written, which is in a power of two
        digits = {"f16": 11, "bf16": 8}[dtype]
        for i, value in ((0, gradients[0]), (3, dy * slope)):
            most = np.abs(value) + limits[i]
            limits[i] = limits[i] + 2.0 ** (np.floor(np.log2(most + 1e-30)).clip(-14 if dtype == "f16" else -126) - digits)
    return limits


class Gradcheck(support.ToolTest):
    def check_report(self, text, devices, norms=NORMS, rows=None, dtype="f32"):
        for norm in norms:
            start = text.index(f"{norm} norm: fp64 formulas against central differences")
            part = text[start : text.index("\n", text.index("silu, z after", start)) + 1]
            self.check_fused_formulas(part, norm)
            for name in ("dx", "dgamma", "dbeta"):
                found = re.findall(rf"^{name} max diff: {NUMBER}$", part, re.MULTILINE)
                self.assertEqual(len(found), 1, part)
                self.assertTrue(0 < float(found[0]) < 1e-8, part)  # exactly 0 would mean that nothing was differenced
                stepwise = re.findall(rf"^stepwise {name} diff: {NUMBER}$", part, re.MULTILINE)
                self.assertEqual(len(stepwise), 1, part)
                self.assertLess(float(stepwise[0]), 1e-8)
        for difference in exercise_b3():
            self.assertLess(difference, 1e-8)
        wanted = list(all_rows(norms) if rows is None else rows)
        for row in wanted:
            label, layout, statistics, fusion = row
            pairs = 4 if fusion[1] == "after" else 3
            found = re.findall(
                rf"^  {label} +{re.escape(layout)} +{statistics} +{' +'.join(fusion)}"
                + rf" +{NUMBER} of +{NUMBER}" * pairs
                + " +pass$",
                text,
                re.MULTILINE,
            )
            # In the list of every layout, too, if it is one of those.
            self.assertEqual(len(found), devices * wanted.count(row), (row, text))
            for numbers in found:
                self.check_row(numbers, bounds(*row, dtype), row, dtype)
        doubles = list(double_rows(norms)) if rows is None else []
        self.check_double(text, devices, norms, doubles)
        # The last line says "all pass".
        self.assertEqual(devices * (len(wanted) + len(doubles)), text.count(" pass\n") - 1)
        self.assertNotIn("FAIL", text)
        self.assertTrue(text.endswith("\ngradcheck: all pass\n"), text)

    def check_double(self, text, devices, norms, rows):
        for norm in set(norms) & {"batch", "layer"}:
            start = text.index(f"{norm} norm, double backward: fp64 formulas against central differences")
            for line, name in zip(text[start:].split("\n")[1:4], ("g_x", "g_dy", "g_weight")):
                self.assertRegex(line, rf"^{name} max diff: {NUMBER}$")
                self.assertTrue(0 < float(line.split()[-1]) < 1e-8, line)
        for label, layout, statistics in rows:
            found = re.findall(
                rf"^  {label} +{re.escape(layout)} +{statistics}" + rf" +{NUMBER} of +{NUMBER}" * 3 + " +pass$",
                text,
                re.MULTILINE,
            )
            # The table of the backward has rows that begin so, but their next column is no number.
            self.assertEqual(len(found), devices, (label, layout, statistics, text))
            for numbers in found:
                for difference, tolerance in zip(numbers[0::2], numbers[1::2]):
                    self.assertTrue(0 < float(difference) <= float(tolerance), numbers)

    def check_fused_formulas(self, part, norm):
        for act in ("none", "relu", "leaky", "gelu", "silu"):
            for z in ("", ", z after") if act != "none" else (", z after",):
                found = re.findall(rf"^{act}{z} max diff: (.*)$", part, re.MULTILINE)
                self.assertEqual(len(found), 1, (norm, act, z, part))
                differences = [float(number) for number in found[0].split()]
                self.assertEqual(len(differences), 4 if z else 3)
                self.assertTrue(all(0 < difference < 1e-8 for difference in differences), found)

    def check_row(self, row, of_outputs, what, dtype):
        for difference, tolerance, bound in zip(row[0::2], row[1::2], of_outputs):
            self.assertLessEqual(float(difference), float(tolerance), what)
            # To the digits printed, and what the differences in fp64 are off by: below 1e-8, but where one or two values make a
            # group, which lie so near each other that the step is no small one.
            p = norm_of(*what[:2])
            off = 1e-8 if np.prod([p.shape[i] for i in p.axes]) > 2 else 1e-2
            above = float(tolerance) - bound
            self.assertTrue(np.any((above > -0.005 * bound) & (above < 0.005 * bound + off)), (what, tolerance, dtype))

    def test_every_device(self):
        for device in support.devices():
            with self.subTest(device=device):
                result = self.clnorm("gradcheck", "--device", device)
                self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
                self.check_report(result.stdout, 1)
                heading = next(line for line in result.stdout.split("\n") if "f32 gradients" in line)
                self.assertIn(device, heading)

    def test_all_devices(self):
        result = self.clnorm("gradcheck", "--device", "all")
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        headings = [line for line in result.stdout.split("\n") if "f32 gradients" in line]
        for device in support.devices():
            self.assertTrue(any(device in heading for heading in headings), (device, headings))
        self.check_report(result.stdout, len(headings))

    def test_one_norm(self):
        for norm in NORMS:
            with self.subTest(norm=norm):
                result = self.clnorm("gradcheck", "--device", "cpu", "--norm", norm)
                self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
                self.check_report(result.stdout, 1, [norm])

    def test_fusions_in_every_layout(self):
        act, add = {"none": "-"}, {"none": "-"}
        for device in support.devices() if support.LONG else ["cpu"]:
            for i, (activation, residual) in enumerate(
                (activation, residual) for activation in ACTIVATIONS for residual in ("none", "after", "before")
            ):
                if i == 0 or (device != "cpu" and i % 4 != 2):  # programs are built for each
                    continue
                dtype = ("f16", "bf16", "f32")[i % 3]
                with self.subTest(device=device, act=activation, residual=residual, dtype=dtype):
                    arguments = ["--act", activation, "--residual", residual, "--dtype", dtype]
                    result = self.clnorm("gradcheck", "--device", device, *arguments)
                    self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
                    fusion = (act.get(activation, activation), add.get(residual, residual))
                    rows = [row for layout in LAYOUTS for row in layouts_rows(layout, NORMS, *fusion)]
                    self.check_report(result.stdout, 1, rows=rows, dtype=dtype)

    def test_groups_and_dimensions(self):
        for option, value, label, norm in (("--groups", "4", "group4", "group"), ("--normalized-dims", "3", "rms3", "rms")):
            with self.subTest(option=option):
                result = self.clnorm("gradcheck", "--device", "cpu", "--norm", norm, option, value, "--act", "silu")
                self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
                rows = [line.split()[0] for line in result.stdout.split("\n") if line.endswith(" pass")][:-1]
                self.assertEqual(rows, [label] * (7 if norm == "group" else 4), result.stdout)

    def test_virtual_batches(self):
        """Of 5 samples: 2, 2 and 1, and 3 and 2. What is checked is what is checked of batch norm."""
        of_norm = len(list(all_rows(["batch"])))
        for device in support.devices() if support.LONG else ["cpu"]:
            for batch in ("2", "3"):
                with self.subTest(device=device, batch=batch):
                    result = self.clnorm("gradcheck", "--device", device, "--norm", "batch", "--virtual-batch", batch)
                    self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
                    rows = [line.split()[0] for line in result.stdout.split("\n") if line.endswith(" pass")][:-1]
                    self.assertEqual(rows, ["batch" + batch] * of_norm, result.stdout)

    def test_wrong_usage(self):
        self.assert_refused(["gradcheck", "--norm", "rows"], "--norm is 'rows'; it must be batch, .* or rms, or all")
        self.assert_refused(["gradcheck", "--device", "no such thing"], "--device.*no such thing")
        self.assert_refused(["gradcheck", "--devices", "cpu"], "--devices: unknown option")
        self.assert_refused(["gradcheck", "--groups", "2"], "--groups is given; it goes with --norm group alone")
        self.assert_refused(["gradcheck", "--norm", "group", "--groups", "3"], "--groups is 3 and must be a divisor of the 4")
        self.assert_refused(["gradcheck", "--normalized-dims", "2"], "--normalized-dims is given; it goes with --norm layer")
        self.assert_refused(["gradcheck", "--norm", "rms", "--normalized-dims", "5"], "--normalized-dims is 5 and must be")
        self.assert_refused(["gradcheck", "--norm", "batch", "--residual", "before"], "--residual is before; it goes with")
        self.assert_refused(["gradcheck", "--virtual-batch", "2"], "--virtual-batch is given; it goes with --norm batch")
        self.assert_refused(["gradcheck", "--norm", "rms", "--virtual-batch", "2"], "--virtual-batch is given; it goes with")
        self.assert_refused(["gradcheck", "--act", "tanh"], "--act is 'tanh'; it must be none, relu")
        self.assert_refused(["gradcheck", "--dtype", "f64"], "--dtype is 'f64'; it must be f32, f16 or bf16")
        self.assert_refused(["gradcheck", "cpu"], "cpu: no such operand")


if __name__ == "__main__":
    support.main()
