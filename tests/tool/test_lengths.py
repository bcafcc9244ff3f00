"""clnorm run, bench, explain, gradcheck and parity with --lengths, against NumPy (double on the values of the files): what is valid of each
sample, one after the other. Bounds are the contract's (include/clnorm/clnorm.h)."""

import json

import numpy as np

import support
from support import U

N, C, T = 6, 8, 23
LENGTHS = np.array([T, 0, 5, 1, 17, T], np.int32)
GROUPS = {"batch": None, "group": 4, "instance": None}
EPS = float(np.float32(1e-5))


def groups_of(norm, valid):
    """Masks of (N, C, T), one a statistics group, and whether it has values."""
    for n in range(1 if norm == "batch" else N):
        samples = slice(None) if norm == "batch" else n
        for k in range(GROUPS[norm] or C):
            width = C // (GROUPS[norm] or C)
            mask = np.zeros((N, C, T), bool)
            mask[samples, k * width : (k + 1) * width] = True
            yield mask & valid[:, None, :]


def expected(norm, x, dy, weight, bias):
    valid = np.arange(T) < LENGTHS[:, None]
    y, dx, xhat = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    bound = np.zeros_like(x)
    w = np.broadcast_to(weight[None, :, None], x.shape)
    for mask in groups_of(norm, valid):
        if not mask.any():
            continue
        v = x[mask]
        rstd = 1 / np.sqrt(v.var() + EPS)
        xhat[mask] = (v - v.mean()) * rstd
        g = w[mask] * dy[mask]
        dx[mask] = rstd * (g - g.mean() - xhat[mask] * (g * xhat[mask]).mean())
        bound[mask] = 32 * U * rstd * (abs(g) + abs(g.mean()) + abs(xhat[mask] * (g * xhat[mask]).mean())).max()
    both = valid[:, None, :] & np.ones((1, C, 1), bool)
    y[both] = (xhat * w + bias[None, :, None])[both]
    masked = np.where(both, dy, 0)
    return {
        "y": (y, np.where(both, 17 * U * abs(xhat * w).max() + U * abs(y).max(), 0)),
        "dx": (dx, bound),
        "dweight": ((masked * xhat).sum((0, 2)), 16 * U * (abs(masked) * (abs(xhat) + 1)).sum((0, 2))),
        "dbias": (masked.sum((0, 2)), 16 * U * abs(masked).sum((0, 2))),
    }


class Lengths(support.ToolTest):
    def files(self, layout, random):
        values = {name: random.standard_normal((N, C, T)).astype(np.float32) + 3 * (name == "x") for name in ("x", "dy")}
        for name, value in values.items():
            padded = np.where((np.arange(T) < LENGTHS[:, None])[:, None, :], value, np.nan)
            self.save(name + ".npy", padded if layout == "ncs" else np.moveaxis(padded, 1, 2))
        for name in ("weight", "bias"):
            values[name] = random.standard_normal(C).astype(np.float32)
            self.save(name + ".npy", values[name])
        self.save("lengths.npy", LENGTHS, np.int32)
        return {name: value.astype(np.float64) for name, value in values.items()}

    def test_run(self):
        random = np.random.default_rng(11)
        for device in support.devices():
            for norm in GROUPS:
                for layout in ("ncs", "nsc"):
                    values = self.files(layout, random)
                    want = expected(norm, **values)
                    options = dict(device=device, norm=norm, groups=GROUPS[norm], layout=layout, x="x.npy")
                    options.update(weight="weight.npy", bias="bias.npy", lengths="lengths.npy")
                    got = self.run_norm(mode="train", **options)
                    got.update(self.run_norm(mode="backward", dy="dy.npy", **options))
                    for name, (reference, tolerance) in want.items():
                        if reference.ndim == 3 and layout == "nsc":
                            reference, tolerance = (np.moveaxis(a, 1, 2) for a in (reference, tolerance))
                        self.assert_within(got[name], reference, tolerance, (device, norm, layout, name))

    def test_a_length_that_does_not_fit_is_told(self):
        self.files("ncs", np.random.default_rng(3))
        arguments = ["run", "--device", "cpu", "--mode", "train", "--layout", "ncs", "--x", "x.npy", "--lengths", "l.npy", "--out", "o"]
        self.save("l.npy", LENGTHS, np.int32)
        self.assertNotIn("length", self.clnorm(*arguments).stdout)
        self.save("l.npy", [T, 0, 5, 1, 17, T + 1], np.int32)
        result = self.clnorm(*arguments)
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"l\.npy: a length is below 0 or above 23")

    def test_refused(self):
        self.files("ncs", np.random.default_rng(3))
        self.save("l64.npy", LENGTHS, np.int64)
        self.save("few.npy", LENGTHS[:-1], np.int32)
        self.save("x4.npy", np.zeros((N, C, 3, 4)))
        self.save("x2.npy", np.zeros((N, C)))

        def run(pattern, x="x.npy", layout="ncs", lengths="lengths.npy", *more):
            arguments = ["run", "--device", "cpu", "--mode", "train", "--layout", layout, "--x", x, "--lengths", lengths]
            self.assert_refused(arguments + ["--out", "out", *more], pattern)

        run(r"l64\.npy: the data type is '<i8'; it must be '<i4'", "x.npy", "ncs", "l64.npy")
        run(r"few\.npy: the shape of lengths is \(5,\); it must be \(6,\)", "x.npy", "ncs", "few.npy")
        run(r"x4\.npy: it has 4 dimensions; with --lengths it must have 3", "x4.npy")
        run(r"x2\.npy: it has 2 dimensions; with --lengths it must have 3", "x2.npy", "nc")
        run(r"--lengths is given; it goes with batch, group and instance norm", "x.npy", "ncs", "lengths.npy", "--norm", "layer")
        run(r"--lengths is given; it does not go with --virtual-batch", "x.npy", "ncs", "lengths.npy", "--virtual-batch", "2")
        self.assert_refused(["gradcheck", "--lengths", "--norm", "rms"], r"--lengths is given; it goes with batch, group")
        self.assert_refused(["gradcheck", "--lengths", "--from-y"], r"--lengths is given; it does not go with --from-y")
        with open(self.path("shapes.txt"), "w", encoding="utf-8") as stream:
            stream.write("image ncs 2x3x4x5\n")
        self.assert_refused(["bench", "--device", "cpu", "--lengths", "--shapes", "shapes.txt"], r"image is another")
        self.assert_refused(["explain", "--lengths", "--layout", "nc", "--shape", "4x8"], r"desc\.lengths is 1")

    def test_bench(self):
        with open(self.path("shapes.txt"), "w", encoding="utf-8") as stream:
            stream.write("a nsc 4x8x16\nb ncs 4x8x16 norm=group groups=2\n")
        self.clnorm("bench", "--device", "cpu", "--lengths", "--shapes", "shapes.txt", "--repeat", "1", "--json", "b.json")
        with open(self.path("b.json"), encoding="utf-8") as stream:
            rows = json.load(stream)
        self.assertEqual(len(rows), 5)
        valid = 8 * (16 + 14 + 12 + 10) * 4  # bytes
        for row in rows:
            self.assertTrue(row["lengths"])
            read = {"train": 2, "infer": 1, "backward": 4}[row["mode"]]
            self.assertEqual(row["bytes"], read * valid + 4 * 8 * 16 * 4, row["mode"])

    def test_parity_and_gradcheck(self):
        names = self.clnorm("parity", "--lengths", "--list").stdout.split()
        self.assertGreater(len(names), 500)
        self.assertTrue(all("_lengths-" in name for name in names))
        result = self.clnorm("gradcheck", "--lengths", "--device", "cpu")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("lengths 3, 0, 2, 1 and 3", result.stdout)
        self.assertNotIn("layer", result.stdout)


if __name__ == "__main__":
    support.main()
