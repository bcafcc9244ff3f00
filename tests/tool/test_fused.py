"""clnorm run with 16-bit types, activations and residuals, against NumPy (double on the values of the files).

y is the contract's 17u·max|weight·x̂| + u·max|t| (include/clnorm/clnorm.h; t: what the activation is of), times the largest slope of the
activation, plus at most 9u·max|t| of its own (tests/cases/wide.c), then rounded to its type: half a unit in its last place. Gradients
are 32u, 16u and 16u of their terms as without an activation, whose terms are those of dy·act'(t), off by 40u·|dy|·(1 + |t|). Where t is
0 but for its error the gradient of ReLU may be either; no value is so near.
"""

import itertools

import numpy as np

import support
from support import U

CASES = 10 if support.LONG else 3
# activation, residual, types of x and y: of tests/cases/table_fused.c
FORMS_OPENCL = (
    ("leaky", "none", "bf16", "bf16"),
    ("gelu", "none", "f16", "f16"),
    ("relu", "after", "bf16", "f16"),
    ("silu", "after", "f16", "f32"),
    ("relu", "before", "f32", "f32"),
    ("silu", "before", "bf16", "bf16"),
)
ROOT = np.sqrt(2 / np.pi)
STEPS = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}  # half a unit of 1


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def gelu_slope(t):
    inner, by = ROOT * (t + 0.044715 * t**3), ROOT * (1 + 3 * 0.044715 * t**2)
    return (1 + np.tanh(inner)) / 2 + t / 2 * by / np.cosh(inner) ** 2


ACTIVATIONS = {
    "none": (lambda t: t, lambda t: np.ones_like(t)),
    "relu": (lambda t: np.maximum(t, 0), lambda t: (t > 0) * 1.0),
    "leaky": (lambda t: np.where(t > 0, t, 0.125 * t), lambda t: np.where(t > 0, 1, 0.125)),
    "gelu": (lambda t: t / 2 * (1 + np.tanh(ROOT * (t + 0.044715 * t**3))), gelu_slope),
    "silu": (lambda t: t * sigmoid(t), lambda t: sigmoid(t) * (1 + t * sigmoid(-t))),
}


def to_file(values, dtype):
    """As .npy has the type: bf16 as the upper 16 bits, rounded to nearest even."""
    if dtype == "bf16":
        bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype(np.float16 if dtype == "f16" else np.float32)


def from_file(values, dtype):
    if dtype == "bf16":
        assert values.dtype == np.uint16
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    assert values.dtype == (np.float16 if dtype == "f16" else np.float32)
    return values.astype(np.float64)


class FusedTest(support.ToolTest):
    def near(self, got, want, tolerance, dtype, what):
        allowed = tolerance + STEPS[dtype] * (np.abs(want) + tolerance) + (2.0**-25 if dtype == "f16" else 0)
        worst = np.argmax(np.abs(got - want) - allowed)
        self.assertTrue(np.all(np.abs(got - want) <= allowed), f"{what}: {got.flat[worst]} and not {want.flat[worst]}")

    def put(self, name, values, dtype):
        data = to_file(values, dtype)
        np.save(self.path(name), data)
        return name, from_file(data, dtype)

    def check(self, rng, act, residual, dtype, y_dtype, device):
        """Layer norm of rows; before, after and the activation in one call, forward and backward."""
        shape = (int(rng.integers(1, 9)), int(rng.integers(2, 70)))
        file_x, x = self.put("x.npy", 3 + 2 * rng.normal(size=shape), dtype)
        file_z, z = self.put("z.npy", rng.normal(size=shape), dtype)
        file_dy, dy = self.put("dy.npy", rng.normal(size=shape), y_dtype)
        file_w, w = self.put("w.npy", rng.normal(size=shape[1]), "f32")
        file_b, b = self.put("b.npy", rng.normal(size=shape[1]), "f32")
        options = dict(norm="layer", layout="nc", weight=file_w, bias=file_b, dtype=dtype, device=device, act=act)
        options.update(y_dtype=y_dtype, slope="0.125" if act == "leaky" else None)
        fused = dict(residual=residual, z=file_z) if residual != "none" else {}
        what = (act, residual, dtype, y_dtype, device, shape)
        out = self.run_norm(mode="train", x=file_x, **options, **fused)
        if residual == "before":
            x = from_file(to_file(x + z, dtype), dtype)
            np.testing.assert_array_equal(from_file(out["sum"], dtype), x)
            np.save(self.path("x.npy"), out["sum"])
            fused = {}
        mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        rstd = 1 / np.sqrt(var + float(np.float32(1e-5)))
        xhat = (x - mean) * rstd
        t = xhat * w + b + (z if residual == "after" else 0)
        value, slope = ACTIVATIONS[act]
        most = np.abs(t).max(1, keepdims=True)
        linear = 17 * U * np.abs(xhat).max(1, keepdims=True) * np.abs(w).max() + 2 * U * most
        self.near(from_file(out["y"], y_dtype), value(t), 1.13 * linear + 9 * U * most, y_dtype, what)
        np.save(self.path("y.npy"), out["y"])
        ways = [fused]
        if act in ("relu", "leaky"):  # the sign of y tells the gradient, and z is needed no more
            ways.append({**fused, "z": None, "y": "y.npy"})
        delta, off = dy * slope(t), (40 * U * np.abs(dy) * (1 + np.abs(t)) if act != "none" else 0 * dy)
        g = delta * w
        by_mean, by_var = g.mean(1, keepdims=True), xhat * (g * xhat).mean(1, keepdims=True)
        terms = (np.abs(g) + np.abs(by_mean) + np.abs(by_var)).max(1, keepdims=True)
        spread = np.abs(off * w) + np.abs(off * w).mean(1, keepdims=True)
        spread = spread + np.abs(xhat) * np.abs(off * w * xhat).mean(1, keepdims=True)
        for way in ways:
            out = self.run_norm(mode="backward", x=file_x, dy=file_dy, **options, **way)
            self.near(
                from_file(out["dx"], dtype), rstd * (g - by_mean - by_var), rstd * (32 * U * terms + spread), dtype, what
            )
            wide = np.abs(delta) * (np.abs(xhat) + 1)
            tolerance = (16 * U * wide + off * np.abs(xhat)).sum(0)
            self.near(from_file(out["dweight"], "f32"), (delta * xhat).sum(0), tolerance, "f32", what)
            tolerance = (16 * U * np.abs(delta) + off).sum(0)
            self.near(from_file(out["dbias"], "f32"), delta.sum(0), tolerance, "f32", what)
            if residual == "after":
                self.near(from_file(out["dz"], dtype), delta, off, dtype, what)

    def test_all(self):
        """On the CPU each activation with each residual, on OpenCL devices, where each is a program, some of the table of cases."""
        rng = np.random.default_rng(5)
        types = list(STEPS)
        for device in support.devices():
            forms = FORMS_OPENCL
            if device == "cpu":
                pairs = itertools.product(ACTIVATIONS, ("none", "after", "before"))
                forms = [(*pair, types[(i + k) % 3], types[(i + k * k) % 3]) for i, pair in enumerate(pairs) for k in range(3)]
            for form in forms:
                with self.subTest(form=form, device=device):
                    for _ in range(CASES):
                        self.check(rng, *form, device)


class Refused(support.ToolTest):
    def test_options(self):
        self.save("x.npy", np.ones((2, 3)))
        self.save("half.npy", np.ones((2, 3)), np.float16)
        train = ["run", "--mode", "train", "--layout", "nc", "--x", "x.npy", "--device", "cpu", "--out", "out"]
        layer = [*train, "--norm", "layer"]
        for arguments, pattern in (
            ([*train, "--dtype", "f64"], "--dtype is 'f64'; it must be f32, f16 or bf16"),
            ([*train, "--y-dtype", "half"], "--y-dtype is 'half'"),
            ([*train, "--act", "tanh"], "--act is 'tanh'; it must be none, relu, leaky, gelu or silu"),
            ([*train, "--slope", "0.1"], "--slope is given; it goes with --act leaky alone"),
            ([*train, "--act", "leaky", "--slope", "nan"], "--slope is 'nan'"),
            ([*train, "--residual", "both"], "--residual is 'both'"),
            ([*train, "--residual", "after"], "--z is missing"),
            ([*train, "--z", "x.npy"], "--z is given; it goes with --residual alone"),
            ([*train, "--residual", "before", "--z", "x.npy"], "--residual is before; it goes with layer and RMS norm"),
            ([*layer, "--residual", "before", "--z", "half.npy"], "half.npy: the data type is '<f2'; it must be '<f4'"),
            ([*train, "--dtype", "f16"], "x.npy: the data type is '<f4'; it must be '<f2' .little-endian f16."),
            ([*train, "--dtype", "bf16"], "x.npy: the data type is '<f4'; it must be '<u2' .bf16"),
            ([*train, "--act", "relu", "--y", "x.npy"], "--y is given; it goes with --mode backward alone"),
            (
                ["run", "--mode", "backward", *train[3:], "--act", "silu", "--dy", "x.npy", "--y", "x.npy"],
                "--y is given; it goes with --act relu, and with leaky of a positive slope",
            ),
            (
                ["run", "--mode", "backward", *layer[3:], "--residual", "before", "--z", "x.npy", "--dy", "x.npy"],
                "backward takes sum.npy of --mode train as --x",
            ),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(arguments, pattern)


if __name__ == "__main__":
    support.main()
