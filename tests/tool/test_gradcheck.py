"""clnorm gradcheck: the stream is NumPy's, the fp64 reference agrees with NumPy, wrong gradients are found, every device passes."""

import os
import re
import subprocess
import unittest

import numpy as np

import support
from norms import NORMS, Norm

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


def rows_of(layout):
    """The rows of the table for a layout: (label, statistics)."""
    dims = layout.count(",")
    for norm in NORMS:
        if norm in ("layer", "rms"):
            yield from ((norm + (str(k) if k > 1 else ""), "own") for k in range(1, dims + 1))
        else:
            yield (norm + "2" * (norm == "group"), "own")
            if norm != "group":
                yield (norm, "frozen")


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


def bounds(label, layout, frozen):
    """The contract's bounds of f32 for dx, dweight and dbias, from the same stream by NumPy."""
    p = norm_of(label, layout)

    def draw(size):
        return np.random.randn(size).astype(np.float32).astype(np.float64)

    np.random.seed(42)
    elements = 20 * p.s
    x, weight, _, dy = draw(elements), draw(p.weights), draw(p.weights), draw(elements)
    x, weight, dy = p.tensor(x), p.weight(weight), p.tensor(dy)
    mean, var = p.statistics(x)
    if frozen:
        mean, var = p.weight(draw(4)), p.weight(np.float32(0.5 + np.abs(draw(4))))
    rstd = 1 / np.sqrt(var + np.float64(np.float32(1e-5)))
    sizes = p.gradients(x, dy, weight, mean, rstd, frozen)[1]
    return [factor * support.U * size for factor, size in zip((32, 16, 16), sizes)]


class Gradcheck(support.ToolTest):
    def check_report(self, text, devices, norms=NORMS):
        for norm in norms:
            start = text.index(f"{norm} norm: fp64 formulas against central differences")
            part = text[start : text.index("\n", text.index("stepwise dbeta", start)) + 1]
            for name in ("dx", "dgamma", "dbeta"):
                found = re.findall(rf"^{name} max diff: {NUMBER}$", part, re.MULTILINE)
                self.assertEqual(len(found), 1, part)
                self.assertTrue(0 < float(found[0]) < 1e-8, part)  # exactly 0 would mean that nothing was differenced
                stepwise = re.findall(rf"^stepwise {name} diff: {NUMBER}$", part, re.MULTILINE)
                self.assertEqual(len(stepwise), 1, part)
                self.assertLess(float(stepwise[0]), 1e-8)
        for difference in exercise_b3():
            self.assertLess(difference, 1e-8)
        count = 0
        for layout in LAYOUTS:
            for label, statistics in rows_of(layout):
                rows = re.findall(
                    rf"^  {label} +{re.escape(layout)} +{statistics}"
                    + rf" +{NUMBER} of +{NUMBER}" * 3
                    + " +pass$",
                    text,
                    re.MULTILINE,
                )
                asked = label.rstrip("0123456789") in norms
                self.assertEqual(len(rows), devices * asked, (label, layout, statistics, text))
                count += len(rows)
                for row in rows:
                    self.check_row(row, bounds(label, layout, statistics == "frozen"), (label, layout, row))
        self.assertEqual(count, text.count(" pass\n") - 1)  # the last line says "all pass"
        self.assertNotIn("FAIL", text)
        self.assertTrue(text.endswith("\ngradcheck: all pass\n"), text)

    def check_row(self, row, of_outputs, what):
        for difference, tolerance, bound in zip(row[0::2], row[1::2], of_outputs):
            self.assertLessEqual(float(difference), float(tolerance), what)
            # To the digits printed, and what the differences in fp64 are off by: below 1e-8, but where one or two values make a
            # group, which lie so near each other that the step is no small one.
            p = norm_of(*what[:2])
            off = 1e-8 if np.prod([p.shape[i] for i in p.axes]) > 2 else 1e-2
            above = float(tolerance) - bound
            self.assertTrue(np.any((above > -0.005 * bound) & (above < 0.005 * bound + off)), what)

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

    def test_wrong_usage(self):
        self.assert_refused(["gradcheck", "--norm", "rows"], "--norm is 'rows'; it must be batch, .* or rms, or all")
        self.assert_refused(["gradcheck", "--device", "no such thing"], "--device.*no such thing")
        self.assert_refused(["gradcheck", "--devices", "cpu"], "--devices: unknown option")
        self.assert_refused(["gradcheck", "cpu"], "cpu: no such operand")


if __name__ == "__main__":
    support.main()
