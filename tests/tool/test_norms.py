"""clnorm run for layer, group, instance and RMS norm, against NumPy (long double on the same f32 input), with the shapes that other
frameworks give to weights and statistics. The bounds are the contract's (include/clnorm/clnorm.h), as in test_run.py; of y over the
statistics group: 17u·max|weight|·max|x̂| + u·max|y|.
"""

import numpy as np

import support
from norms import Norm
from support import U

CASES = 12 if support.LONG else 3
WIDE = np.longdouble


class Problem:
    def __init__(self, rng, norm):
        self.layout = str(rng.choice(["nc", "ncs", "nsc"]))
        spatial = () if self.layout == "nc" else tuple(rng.integers(1, 10, size=rng.integers(1, 4)))
        n, c = int(rng.integers(1, 12)), int(rng.choice([1, 6, 12, 35]))
        self.shape = (n, *spatial, c) if self.layout == "nsc" else (n, c, *spatial)
        self.groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        self.dims = int(rng.integers(1, len(self.shape)))
        self.n, self.c, self.spatial = n, c, spatial
        self.norm = Norm(
            norm, self.layout, n, c, int(np.prod(spatial)), self.groups, int(np.prod(self.shape[-self.dims :]))
        )
        self.eps = float(np.float32(rng.choice([1e-5, 1e-3, 0.1])))
        rows = self.norm.rows
        self.weight_shape = self.shape[-self.dims :] if rows else (c,)
        self.statistics_shape = (
            self.shape[: -self.dims] if rows else (n, self.groups) if norm == "group" else (n, c)
        )
        self.x = (rng.choice([0, 1e2, 1e4]) + rng.choice([0.1, 30]) * rng.normal(size=self.shape)).astype(np.float32)
        self.dy = rng.normal(size=self.shape).astype(np.float32)
        self.weight, self.bias = (rng.normal(size=self.weight_shape).astype(np.float32) for _ in range(2))
        self.running_mean = rng.normal(size=c).astype(np.float32)
        self.running_var = rng.uniform(0.1, 3, size=c).astype(np.float32)

    def files(self, test, *names):
        options = {"norm": self.norm.norm, "layout": self.layout, "eps": repr(self.eps)}
        if self.norm.rows:
            options["normalized_dims"] = self.dims
        elif self.norm.norm == "group":
            options["groups"] = self.groups
        return {**options, **{name: test.save(name + ".npy", getattr(self, name)) for name in names}}

    def tensor(self, values):
        return self.norm.tensor(values.reshape(-1).astype(WIDE))

    def flat(self, tensor):
        return self.norm.flat(np.broadcast_to(tensor, self.norm.shape)).reshape(self.shape)

    def rstd(self, var):
        return 1 / np.sqrt(np.asarray(var, WIDE) + self.eps)

    def wide_channels(self):
        """The shape of values per channel that goes with x."""
        axis = len(self.shape) - 1 if self.layout == "nsc" else 1
        return [-1 if i == axis else 1 for i in range(len(self.shape))]

    def __str__(self):
        return f"{self.norm.norm} {self.layout} {self.shape} groups {self.groups} dims {self.dims}"


class Norms(support.ToolTest):
    def problems(self, seed, norms=("layer", "group", "instance", "rms")):
        for device in support.devices():
            rng = np.random.default_rng(seed)
            for norm in norms:
                for _ in range(CASES):
                    p = Problem(rng, norm)
                    with self.subTest(f"{device} {p}"):
                        yield device, p

    def check_y(self, p, got, mean, var):
        weight, bias = p.norm.weight(p.weight.reshape(-1).astype(WIDE)), p.norm.weight(p.bias.reshape(-1).astype(WIDE))
        xhat = (p.tensor(p.x) - mean) * p.rstd(var)
        y = xhat * weight + bias
        most = lambda values: np.broadcast_to(np.abs(values), p.norm.shape).max(p.norm.axes, keepdims=True)
        self.assert_within(got, p.flat(y), p.flat(U * (17 * most(weight) * most(xhat) + most(y))), "y")

    def test_train(self):
        for device, p in self.problems(1):
            mean, var = p.norm.statistics(p.tensor(p.x))
            got = self.run_norm(mode="train", device=device, **p.files(self, "x", "weight", "bias"))
            self.check_y(p, got["y"], mean, var)
            wanted = {"rstd": (p.rstd(var), 17 * U * p.rstd(var))}
            if p.norm.norm != "rms":
                wanted["mean"] = (mean, U * np.abs(mean) + 16 * U * np.sqrt(var))
                wanted["var"] = (var, 32 * U * var)
            self.assertEqual(sorted(got), sorted(["y", *wanted]))
            for name, values in wanted.items():
                value, tolerance = (v.reshape(p.statistics_shape) for v in values)
                self.assert_within(got[name], value, tolerance, name)

    def test_backward(self):
        for device, p in self.problems(2):
            files = p.files(self, "x", "weight", "dy")
            self.check_gradients(p, self.run_norm(mode="backward", device=device, **files), None)

    def check_gradients(self, p, got, running):
        x, dy = p.tensor(p.x), p.tensor(p.dy)
        mean, var = running or p.norm.statistics(x)
        values, sizes = p.norm.gradients(
            x, dy, p.norm.weight(p.weight.reshape(-1).astype(WIDE)), mean, p.rstd(var), running is not None
        )
        self.assert_within(got["dx"], p.flat(values[0]), p.flat(32 * U * sizes[0]), "dx")
        for i, name in enumerate(("dweight", "dbias"), 1):
            want, tolerance = (v.reshape(p.weight_shape) for v in (values[i], 16 * U * sizes[i]))
            self.assert_within(got[name], want, tolerance, name)

    def test_running_statistics(self):
        """Of instance norm: the mean over the samples enters; infer and frozen backward take one value a channel."""
        running = ("running_mean", "running_var")
        for device, p in self.problems(3, ["instance"]):
            files = p.files(self, "x", "weight", "bias", *running)
            given = tuple(p.norm.weight(getattr(p, name).astype(WIDE)) for name in running)
            got = self.run_norm(mode="infer", device=device, **files)
            self.check_y(p, got["y"], *given)
            for name in ("mean", "var"):
                np.testing.assert_array_equal(got[name], getattr(p, "running_" + name))
            del files["bias"]
            files["dy"] = self.save("dy.npy", p.dy)
            got = self.run_norm(mode="backward", frozen=True, device=device, **files)
            self.check_gradients(p, got, given)
            del files["dy"]
            got = self.run_norm(mode="train", momentum=0.25, variance="unbiased", device=device, **files)
            mean, var = (v.reshape(p.n, p.c).mean(0) for v in p.norm.statistics(p.tensor(p.x)))
            m = p.norm.s
            factor = m / WIDE(m - 1) if m > 1 else 1
            for name, batch, tolerance in (
                (running[0], mean, np.abs(mean) + 32 * np.abs(p.x - mean.reshape(p.wide_channels())).max()),
                (running[1], factor * var, 50 * factor * var),
            ):
                old = getattr(p, name).astype(WIDE)
                roundings = 4 * (np.abs(old) + np.abs(batch))
                want = 0.75 * old + 0.25 * batch
                self.assert_within(got[name], want, U * (0.25 * tolerance + roundings), name)

    def test_virtual_batches(self):
        """Of batch norm: each like a run on its samples alone; sums and running statistics over all of them."""
        for device, p in self.problems(5, ["batch"] * 3):
            batch = int(np.random.default_rng(p.n).integers(1, p.n + 2))
            firsts = range(0, p.n, batch)
            slices = [slice(first, first + batch) for first in firsts]
            norms = [Norm("batch", p.layout, len(p.x[s]), p.c, p.norm.s) for s in slices]
            weight, bias = (norms[0].weight(v.astype(WIDE)) for v in (p.weight, p.bias))
            xs, dys = ([n.tensor(v[s].reshape(-1).astype(WIDE)) for n, s in zip(norms, slices)] for v in (p.x, p.dy))
            statistics = [n.statistics(x) for n, x in zip(norms, xs)]
            running = {"running_mean": p.running_mean.astype(WIDE), "running_var": p.running_var.astype(WIDE)}
            files = p.files(self, "x", "weight", "bias", *running)
            got = self.run_norm(mode="train", momentum=0.25, virtual_batch=batch, device=device, **files)
            self.assertEqual(got["mean"].shape, (len(norms), p.c))
            for name, old in running.items():
                size = np.abs(old)
                for mean, var in statistics:
                    new = (mean if name == "running_mean" else var).reshape(-1)
                    size = np.maximum(size, np.abs(new) + 16 * np.sqrt(var.reshape(-1)) + 32 * var.reshape(-1))
                    old = 0.75 * old + 0.25 * new
                self.assert_within(got[name], old, 4 * len(norms) * U * size, name)
            del files["bias"], files["running_mean"], files["running_var"]
            files["dy"] = self.save("dy.npy", p.dy)
            gradients = self.run_norm(mode="backward", virtual_batch=batch, device=device, **files)
            wanted = []
            for k, (n, s, x, dy, (mean, var)) in enumerate(zip(norms, slices, xs, dys, statistics)):
                flat = lambda v, n=n, s=s: n.flat(np.broadcast_to(v, n.shape)).reshape(p.x[s].shape)
                xhat = (x - mean) * p.rstd(var)
                most = lambda v, n=n: np.broadcast_to(np.abs(v), n.shape).max(n.axes, keepdims=True)
                y = xhat * weight + bias
                self.assert_within(got["y"][s], flat(y), flat(U * (17 * most(weight) * most(xhat) + most(y))), "y")
                self.assert_within(got["var"][k], var.reshape(-1), 32 * U * var.reshape(-1), "var")
                values, sizes = n.gradients(x, dy, weight, mean, p.rstd(var), False)
                self.assert_within(gradients["dx"][s], flat(values[0]), flat(32 * U * sizes[0]), "dx")
                wanted.append((values[1:], sizes[1:]))
            for i, name in enumerate(("dweight", "dbias")):
                want, size = (sum(both[of][i] for both in wanted) for of in (0, 1))
                self.assert_within(gradients[name], want, (15 + len(norms)) * U * size, name)

    def test_large_mean_and_constant_rows(self):
        rng = np.random.default_rng(4)
        x = (1e6 + 1e-1 * rng.normal(size=(9, 700))).astype(np.float32)
        x[4] = 1234.567
        bias = rng.normal(size=700).astype(np.float32)
        for device in support.devices():
            with self.subTest(device=device):
                files = {"x": self.save("x.npy", x), "bias": self.save("bias.npy", bias)}
                got = self.run_norm(mode="train", norm="layer", layout="nc", device=device, **files)
                np.testing.assert_array_equal(got["y"][4], bias)
                self.assertEqual((got["var"][4], got["mean"][4]), (0, np.float32(1234.567)))
                wide = x.astype(WIDE)
                mean, var = wide.mean(1, keepdims=True), wide.var(1, keepdims=True)
                xhat = (wide - mean) / np.sqrt(var + WIDE(np.float32(1e-5)))
                tolerance = U * (16 * np.abs(xhat).max(1, keepdims=True) + np.abs(xhat + bias).max(1, keepdims=True))
                self.assert_within(got["y"], xhat + bias, tolerance, "y")


if __name__ == "__main__":
    support.main()
