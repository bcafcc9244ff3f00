"""clnorm run against the formulas in NumPy (long double on the same f32 input): every mode and layout on every device.

The bounds are the contract's (include/clnorm/clnorm.h), with u = 2^-24 and per channel:
    |y − y64| ≤ 16u·max|y64| for weight 1 and bias 0. A weight rounds the folded factor once more, and the last addition
    rounds y: 17u·max|weight·x̂| + u·max|y|. With bias alone the first part stays as it is.
    The bound on y is one on the mean, up to the rounding of its result, and one on rstd, thus (twice) on var.
    |dx − dx64| ≤ 32u·max|weight|·rstd·max(|dy| + |mean dy| + |x̂·mean(dy·x̂)|)
    |dweight − …| ≤ 16u·Σ|dy·x̂|, |dbias − …| ≤ 16u·Σ|dy|
"""

import numpy as np

import support
from support import U

CASES = 40 if support.LONG else 6
WIDE = np.longdouble


class Problem:
    """Shapes, data and what must come out, channel by channel."""

    def __init__(self, rng, layout=None, shape=None):
        self.layout = layout or rng.choice(["nc", "ncs", "nsc"])
        spatial = () if self.layout == "nc" else tuple(rng.integers(1, 10, size=rng.integers(1, 4)))
        n, c = int(rng.integers(1, 20)), int(rng.integers(1, 40))
        self.shape = shape or ((n, c, *spatial) if self.layout != "nsc" else (n, *spatial, c))
        self.axis = len(self.shape) - 1 if self.layout == "nsc" else 1
        self.c = self.shape[self.axis]
        self.reduced = tuple(i for i in range(len(self.shape)) if i != self.axis)
        self.m = int(np.prod([self.shape[i] for i in self.reduced]))
        self.eps = float(np.float32(rng.choice([1e-5, 1e-3, 0.1])))
        normal = lambda *size: rng.normal(size=size).astype(np.float32)
        mean = self.wide(rng.choice([0, 1, 1e2, 1e4], size=self.c))
        scale = self.wide(rng.choice([1e-2, 1, 30], size=self.c))
        self.x = (mean + scale * rng.normal(size=self.shape)).astype(np.float32)
        self.dy = normal(*self.shape) + np.float32(rng.choice([0, 3]))
        self.weight = normal(self.c) if rng.random() < 0.6 else None
        self.bias = normal(self.c) if rng.random() < 0.6 else None
        self.running_mean = normal(self.c)
        self.running_var = rng.uniform(0.1, 3, size=self.c).astype(np.float32)

    def wide(self, of_channels):
        """Values per channel, shaped to go with x."""
        return np.reshape(of_channels, [-1 if i == self.axis else 1 for i in range(len(self.shape))])

    def per_channel(self, values, how=np.max):
        return how(values, axis=self.reduced)

    def statistics(self):
        x = self.x.astype(WIDE)
        mean = self.per_channel(x, np.mean)
        return mean, self.per_channel((x - self.wide(mean)) ** 2, np.mean)

    def rstd(self, var):
        return 1 / np.sqrt(np.asarray(var, WIDE) + self.eps)

    def xhat(self, mean, var):
        return (self.x.astype(WIDE) - self.wide(np.asarray(mean, WIDE))) * self.wide(self.rstd(var))

    def files(self, test):
        """Saves all, and gives the options that name the files."""
        options = {"layout": self.layout, "eps": repr(self.eps)}
        for name in ("x", "weight", "bias"):
            if getattr(self, name) is not None:
                options[name] = test.save(name + ".npy", getattr(self, name))
        return options

    def running_files(self, test):
        return {name: test.save(name + ".npy", getattr(self, name)) for name in ("running_mean", "running_var")}

    def __str__(self):
        given = "".join(name[0] for name in ("weight", "bias") if getattr(self, name) is not None)
        return f"{self.layout} {self.shape} eps {self.eps} {given}"


class RunTest(support.ToolTest):
    def check_y(self, p, got, mean, var, what):
        product = p.xhat(mean, var) * (1 if p.weight is None else p.wide(p.weight.astype(WIDE)))
        y = product + (0 if p.bias is None else p.wide(p.bias.astype(WIDE)))
        factors = 16 + (p.weight is not None)
        roundings = 0 if p.bias is None else U * p.per_channel(np.abs(y))
        self.assert_within(got, y, p.wide(factors * U * p.per_channel(np.abs(product)) + roundings), what + ": y")

    def mean_tolerance(self, p, mean):
        return U * np.abs(mean) + 16 * U * p.per_channel(np.abs(p.x - p.wide(mean)))

    def check_statistics(self, p, got, what):
        mean, var = p.statistics()
        self.assert_within(got["mean"], mean, self.mean_tolerance(p, mean), what + ": mean")
        self.assert_within(got["var"], var, 32 * U * var, what + ": var")
        self.assert_within(got["rstd"], p.rstd(var), 17 * U * p.rstd(var), what + ": rstd")

    def check_running(self, p, got, share, unbiased, what):
        """new = (1 − share)·old + share·batch: a few roundings of terms no larger than old and batch, and its own."""
        mean, var = p.statistics()
        factor = p.m / (p.m - 1) if unbiased and p.m > 1 else 1
        for name, old, batch, tolerance in (
            ("running_mean", p.running_mean, mean, self.mean_tolerance(p, mean)),
            ("running_var", p.running_var, factor * var, 34 * U * factor * var),
        ):
            want = (1 - share) * old.astype(WIDE) + share * batch
            roundings = 4 * U * (np.abs(old) + np.abs(batch))
            self.assert_within(got[name], want, share * tolerance + roundings, what + ": " + name)

    def check_gradients(self, p, got, mean, var, frozen, what):
        xhat, dy = p.xhat(mean, var), p.dy.astype(WIDE)
        weight = np.ones(p.c, WIDE) if p.weight is None else p.weight.astype(WIDE)
        dweight, dbias = p.per_channel(dy * xhat, np.sum), p.per_channel(dy, np.sum)
        sizes = p.per_channel(np.abs(dy * xhat), np.sum), p.per_channel(np.abs(dy), np.sum)
        self.assert_within(got["dweight"], dweight, 16 * U * sizes[0], what + ": dweight")
        self.assert_within(got["dbias"], dbias, 16 * U * sizes[1], what + ": dbias")
        through = [p.wide(dbias / p.m), xhat * p.wide(dweight / p.m)] if not frozen else [0 * dy, 0 * dy]
        dx = p.wide(weight * p.rstd(var)) * (dy - through[0] - through[1])
        terms = np.abs(dy) + np.abs(through[0]) + np.abs(through[1])
        self.assert_within(
            got["dx"], dx, p.wide(32 * U * np.abs(weight) * p.rstd(var) * p.per_channel(terms)), what + ": dx"
        )


def on_every_device(method):
    """Runs a test on each device in turn; the data are the same on all."""

    def test(self):
        for device in support.devices():
            with self.subTest(device=device):
                method(self, device)

    test.__name__ = method.__name__
    test.__doc__ = method.__doc__
    return test


class Random(RunTest):
    """Random shapes and layouts, each in every mode."""

    def problems(self, seed):
        rng = np.random.default_rng(seed)
        for _ in range(CASES):
            yield rng, Problem(rng)
        if support.LONG:
            for layout, shape in (
                ("nc", (3000, 3)),
                ("nc", (2, 5000)),
                ("ncs", (4, 5, 70, 60)),
                ("nsc", (4, 70, 60, 5)),
                ("ncs", (1, 1, 100000)),
                ("nsc", (1, 100000, 1)),
            ):
                yield rng, Problem(rng, layout, shape)

    @on_every_device
    def test_train(self, device):
        for rng, p in self.problems(10):
            options, what = {"mode": "train", "device": device, **p.files(self)}, f"{device} {p}"
            momentum, unbiased = float(np.float32(rng.choice([0, 0.1, 0.7, 1]))), bool(rng.integers(2))
            if rng.random() < 0.7:
                options.update(p.running_files(self))
                options.update(momentum=repr(momentum), variance="unbiased" if unbiased else "biased")
            with self.subTest(what):
                got = self.run_norm(**options)
                self.check_y(p, got["y"], *p.statistics(), what)
                self.check_statistics(p, got, what)
                self.assertEqual("running_mean" in got, "running_mean" in options)
                if "running_mean" in options:
                    self.check_running(p, got, momentum, unbiased, what)

    @on_every_device
    def test_infer(self, device):
        for _, p in self.problems(11):
            what = f"{device} {p}"
            with self.subTest(what):
                got = self.run_norm(mode="infer", device=device, **p.files(self), **p.running_files(self))
                self.check_y(p, got["y"], p.running_mean, p.running_var, what)
                for name in ("mean", "var"):
                    np.testing.assert_array_equal(got[name], getattr(p, "running_" + name))
                    np.testing.assert_array_equal(got["running_" + name], getattr(p, "running_" + name))
                rstd = p.rstd(p.running_var)
                # fp64 rounded to f32, once: half a unit, and a little for what fp64 rounded before
                self.assert_within(got["rstd"], rstd, U * rstd * (1 + 2.0**-20), what + ": rstd")

    @on_every_device
    def test_backward(self, device):
        for rng, p in self.problems(12):
            frozen = bool(rng.integers(2))
            options = {"mode": "backward", "device": device, "dy": self.save("dy.npy", p.dy), **p.files(self)}
            if frozen:
                options.update(p.running_files(self), frozen=True)
            what = f"{device} {p} {'frozen' if frozen else 'batch'}"
            with self.subTest(what):
                mean, var = (p.running_mean, p.running_var) if frozen else p.statistics()
                self.check_gradients(p, self.run_norm(**options), mean, var, frozen, what)


class Edges(RunTest):
    """The cases whose answers are written down (include/clnorm/clnorm.h)."""

    @on_every_device
    def test_defaults(self, device):
        """eps 1e-5, momentum 0.1, biased, exponential; on the device that --device names."""
        p = Problem(np.random.default_rng(20), "ncs", (5, 3, 7))
        p.eps = float(np.float32(1e-5))
        options = p.files(self)
        del options["eps"]
        got = self.run_norm(mode="train", device=device, **options, **p.running_files(self))
        self.check_statistics(p, got, device)
        self.check_running(p, got, float(np.float32(0.1)), False, device)
        result = self.clnorm("devices")
        self.assertIn(device, result.stdout)

    @on_every_device
    def test_running(self, device):
        """Both variances and any momentum, also its ends: 0 keeps the old values, 1 takes the batch's."""
        p = Problem(np.random.default_rng(27), "nsc", (2, 2, 3))
        files = {**p.files(self), **p.running_files(self)}
        for variance, momentum in (("biased", 0.25), ("unbiased", 0.25), ("unbiased", 1), ("unbiased", 0)):
            with self.subTest(variance=variance, momentum=momentum):
                got = self.run_norm(mode="train", device=device, variance=variance, momentum=momentum, **files)
                self.check_running(p, got, momentum, variance == "unbiased", f"{device} {variance} {momentum}")
                if momentum == 0:
                    np.testing.assert_array_equal(got["running_mean"], p.running_mean)

    @on_every_device
    def test_cumulative(self, device):
        """The mean of all batches: after k of them, with count k − 1, whatever the momentum."""
        p = Problem(np.random.default_rng(21), "nc", (50, 6))
        files = {**p.files(self), **p.running_files(self)}
        for count in (0, 1, 9, 2**40):
            with self.subTest(count=count):
                got = self.run_norm(mode="train", device=device, average="cumulative", count=count, momentum=1, **files)
                self.check_running(p, got, WIDE(1) / (count + 1), False, f"{device} count {count}")

    @on_every_device
    def test_one_value_per_channel(self, device):
        p = Problem(np.random.default_rng(22), "nc", (1, 9))
        p.bias = np.arange(9, dtype=np.float32)
        files = {**p.files(self), **p.running_files(self)}
        got = self.run_norm(mode="train", device=device, variance="unbiased", momentum=0.5, **files)
        np.testing.assert_array_equal(got["y"][0], p.bias)
        np.testing.assert_array_equal(got["mean"], p.x[0])
        np.testing.assert_array_equal(got["var"], np.zeros(9, np.float32))
        self.check_running(p, got, 0.5, True, device)

    @on_every_device
    def test_empty_batch(self, device):
        """y is empty, statistics of nothing are NaN, the running ones stay, gradients of the parameters are 0."""
        shapes = [("ncs", (0, 3, 2, 2)), ("nc", (0, 3)), ("nsc", (0, 2, 3))]
        for layout, shape in shapes if support.LONG or device == "cpu" else shapes[:1]:
            with self.subTest(layout=layout):
                rng = np.random.default_rng(23)
                x = {"layout": layout, "device": device, "x": self.save("x.npy", np.zeros(shape))}
                running = {"running_mean": rng.normal(size=3).astype(np.float32), "running_var": np.float32([1, 2, 3])}
                files = {name: self.save(name + ".npy", value) for name, value in running.items()}
                got = self.run_norm(mode="train", **x, **files)
                self.assertEqual(got["y"].shape, shape)
                for name in ("mean", "var", "rstd"):
                    self.assertTrue(np.all(np.isnan(got[name])) and got[name].shape == (3,), name)
                for name, value in running.items():
                    np.testing.assert_array_equal(got[name], value)
                self.assertEqual(self.run_norm(mode="infer", **x, **files)["y"].shape, shape)
                for more in ({}, {"frozen": True, **files}):
                    got = self.run_norm(mode="backward", dy="x.npy", **x, **more)
                    self.assertEqual(got["dx"].shape, shape)
                    np.testing.assert_array_equal(got["dweight"], np.zeros(3, np.float32))
                    np.testing.assert_array_equal(got["dbias"], np.zeros(3, np.float32))

    @on_every_device
    def test_constant_channels(self, device):
        """Exactly bias, variance exactly 0; with eps 0 the formula's NaN, in that channel alone."""
        rng = np.random.default_rng(24)
        x = rng.normal(size=(33, 4, 5)).astype(np.float32)
        x[:, 1], x[:, 3] = 1234.567, 40000.1
        bias = np.float32([0.1, 0.2, 0.3, 0.4])
        files = {"layout": "ncs", "device": device, "x": self.save("x.npy", x), "bias": self.save("b.npy", bias)}
        got = self.run_norm(mode="train", **files)
        for channel in (1, 3):
            self.assertTrue(np.all(got["y"][:, channel] == bias[channel]))
            self.assertEqual((got["var"][channel], got["mean"][channel]), (0, x[0, channel, 0]))
        zero = self.run_norm(mode="train", eps=0, **files)
        self.assertEqual(np.isnan(zero["y"]).any(axis=(0, 2)).tolist(), [False, True, False, True])
        self.assertEqual(np.isnan(zero["y"]).all(axis=(0, 2)).tolist(), [False, True, False, True])

    @on_every_device
    def test_nonfinite_channel(self, device):
        """The other channels are those of a clean run, bit by bit."""
        rng = np.random.default_rng(25)
        clean = rng.normal(size=(40, 6)).astype(np.float32)
        dirty = clean.copy()
        dirty[7, 2], dirty[8, 4] = np.nan, np.inf
        good = [0, 1, 3, 5]
        for mode in ("train", "backward"):
            outputs = []
            for x in (clean, dirty):
                more = {"dy": self.save("dy.npy", clean)} if mode == "backward" else {}
                outputs.append(self.run_norm(mode=mode, layout="nc", device=device, x=self.save("x.npy", x), **more))
            for name in outputs[0]:
                a, b = (np.ascontiguousarray(o[name][..., good]).tobytes() for o in outputs)
                self.assertEqual(a, b, name)
            self.assertTrue(np.all(np.isnan(outputs[1]["y" if mode == "train" else "dx"][:, [2, 4]])))

    @on_every_device
    def test_hostile_data(self, device):
        """A large mean, an outlier in the first and the last place, tiny and huge values."""
        rng = np.random.default_rng(26)
        normal = rng.normal(size=(1000, 8))
        x = normal.copy()
        x[:, 0] += 1e6
        x[:, 1] = 1e4 + 1e-2 * normal[:, 1]
        x[:, 2] = 40000 + rng.integers(0, 4, size=1000)
        x[0, 3], x[-1, 4] = 1e8, -1e4
        x[:, 5] *= 1e-20
        x[:, 6] *= 1e16
        x[:, 7] = np.where(np.arange(1000) % 2, 1e4, -1e4)
        for layout, values in (("nc", x), ("ncs", x.T[None]), ("nsc", x[None])):
            p = Problem(rng, layout, values.shape)
            p.x, p.weight, p.bias = values.astype(np.float32), None, None
            with self.subTest(layout=layout):
                got = self.run_norm(mode="train", device=device, **p.files(self))
                self.check_y(p, got["y"], *p.statistics(), f"{device} {layout}")


class Device(support.ToolTest):
    def test_names(self):
        """auto works on any machine; a name's letter case does not matter; the answer names the device."""
        self.save("x.npy", np.eye(3))
        common = ["run", "--mode", "train", "--layout", "nc", "--x", "x.npy", "--out", "out"]
        for device in [None, "auto", *support.devices()]:
            for name in {device, device and device.upper()} if device not in ("auto", "cpu") else {device}:
                with self.subTest(name=name):
                    result = self.clnorm(*common, *([] if name is None else ["--device", name]))
                    self.assertEqual((result.returncode, result.stderr), (0, ""))
                    self.assertRegex(result.stdout, r"^(cpu|opencl:\d+\.\d+) \(.+\) wrote y.npy ")
                    if device not in (None, "auto"):
                        self.assertEqual(result.stdout.startswith("cpu "), device == "cpu")


if __name__ == "__main__":
    support.main()
