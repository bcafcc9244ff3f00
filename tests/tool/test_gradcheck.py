"""clnorm gradcheck: the stream is NumPy's, wrong gradients are found, and every device passes."""

import os
import re
import subprocess
import unittest

import numpy as np

import support

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


class Parts(unittest.TestCase):
    def test_stream_is_numpys(self):
        for seed in (42, 0, 1, 2**32 - 1):
            with self.subTest(seed=seed):
                text = subprocess.run([PARTS, "stream", str(seed), "5000"], check=True, stdout=subprocess.PIPE).stdout
                got = np.array([float.fromhex(line) for line in text.decode().split()])
                np.random.seed(seed)
                np.testing.assert_array_equal(got, np.random.randn(5000))

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


def bounds(layout, frozen):
    """The contract's bounds of f32 for dx, dweight and dbias, per channel, from the same stream by NumPy."""
    shape = tuple(int(size) for size in re.findall(r"\d+", layout))
    axis = len(shape) - 1 if layout.startswith("nsc") else 1
    others, wide = tuple(i for i in range(len(shape)) if i != axis), [-1 if i == axis else 1 for i in range(len(shape))]

    def draw(*size):
        return np.random.randn(*size).astype(np.float32).astype(np.float64)

    np.random.seed(42)
    x, weight, _, dy = draw(*shape), draw(4), draw(4), draw(*shape)
    mean, var = x.mean(others), x.var(others)
    if frozen:
        mean, var = draw(4), np.float32(0.5 + np.abs(draw(4)))
    rstd = 1 / np.sqrt(var + np.float64(np.float32(1e-5)))
    xhat = (x - mean.reshape(wide)) * rstd.reshape(wide)
    terms = np.abs(dy) + np.abs(dy.mean(others, keepdims=True))
    terms += np.abs(xhat * (dy * xhat).mean(others, keepdims=True))
    return (
        32 * support.U * np.abs(weight) * rstd * terms.max(others),
        16 * support.U * np.abs(dy * xhat).sum(others),
        16 * support.U * np.abs(dy).sum(others),
    )


class Gradcheck(support.ToolTest):
    def check_report(self, text, devices):
        for name, numpys in zip(("dx", "dgamma", "dbeta"), exercise_b3()):
            found = re.findall(rf"^{name} max diff: {NUMBER}$", text, re.MULTILINE)
            self.assertEqual(len(found), 1, text)
            self.assertTrue(0 < float(found[0]) < 1e-8, text)  # exactly 0 would mean that nothing was differenced
            self.assertLess(numpys, 1e-8)
            stepwise = re.findall(rf"^stepwise {name} diff: {NUMBER}$", text, re.MULTILINE)
            self.assertEqual(len(stepwise), 1, text)
            self.assertLess(float(stepwise[0]), 1e-8)
        for layout in LAYOUTS:
            for statistics in ("batch", "frozen"):
                rows = re.findall(
                    rf"^  {re.escape(layout)} +{statistics}"
                    + rf" +{NUMBER} of +{NUMBER}" * 3
                    + " +pass$",
                    text,
                    re.MULTILINE,
                )
                self.assertEqual(len(rows), devices, (layout, statistics, text))
                for row in rows:
                    self.check_row(row, bounds(layout, statistics == "frozen"), (layout, row))
        self.assertNotIn("FAIL", text)
        self.assertTrue(text.endswith("\ngradcheck: all pass\n"), text)

    def check_row(self, row, of_outputs, what):
        for difference, tolerance, bound in zip(row[0::2], row[1::2], of_outputs):
            self.assertLessEqual(float(difference), float(tolerance), what)
            # The bound of a channel, to the digits printed, and what the differences in fp64 are off by (below 1e-8).
            above = float(tolerance) - bound
            self.assertTrue(np.any((above > -0.005 * bound) & (above < 0.005 * bound + 1e-8)), what)

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

    def test_wrong_usage(self):
        self.assert_refused(["gradcheck", "--device", "no such thing"], "--device.*no such thing")
        self.assert_refused(["gradcheck", "--devices", "cpu"], "--devices: unknown option")
        self.assert_refused(["gradcheck", "cpu"], "cpu: no such operand")


if __name__ == "__main__":
    support.main()
