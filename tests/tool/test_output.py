"""What clnorm run writes: the files of each mode, all of them or none, and never a half-written one."""

import os
import re
import resource
import signal
import stat

import numpy as np

import support


class OutputTest(support.ToolTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(3)
        self.x = rng.normal(size=(6, 4)).astype(np.float32)
        self.save("x.npy", self.x)
        self.save("dy.npy", rng.normal(size=(6, 4)))
        self.save("w.npy", rng.normal(size=4))
        self.save("b.npy", rng.normal(size=4))
        self.save("m.npy", rng.normal(size=4))
        self.save("v.npy", rng.uniform(0.5, 2, size=4))
        self.common = {"layout": "nc", "x": "x.npy", "device": "cpu"}
        self.train_files = ["mean.npy", "rstd.npy", "var.npy", "y.npy"]
        self.running = {"running_mean": "m.npy", "running_var": "v.npy"}

    def arguments(self, out="out", **options):
        return ["run", *support.flatten({"mode": "train", **self.common, **options}), "--out", out]


class Files(OutputTest):
    def test_names(self):
        for options, names in (
            ({"mode": "train"}, "mean rstd var y"),
            ({"mode": "train", **self.running}, "mean rstd running_mean running_var var y"),
            ({"mode": "infer", **self.running}, "mean rstd running_mean running_var var y"),
            ({"mode": "backward", "dy": "dy.npy"}, "dbias dweight dx"),
            ({"mode": "backward", "dy": "dy.npy", "frozen": True, **self.running}, "dbias dweight dx"),
        ):
            with self.subTest(options=options):
                out = self.run_norm(**self.common, **options)
                self.assertEqual(" ".join(sorted(out)), names)
                result = self.clnorm(*self.arguments(**options))
                listed = re.fullmatch(r"cpu \(.*\) wrote(.*) into out\n", result.stdout).group(1).split()
                self.assertEqual(sorted(listed), [name + ".npy" for name in names.split()])

    def test_no_option_changes_the_rest(self):
        """--norm batch is the default, --bias does nothing in backward, and neither do the running values to y."""
        backward = self.run_norm(mode="backward", dy="dy.npy", weight="w.npy", **self.common)
        again = self.run_norm(mode="backward", norm="batch", dy="dy.npy", weight="w.npy", bias="b.npy", **self.common)
        for name in backward:
            np.testing.assert_array_equal(backward[name], again[name])
        train = self.run_norm(mode="train", **self.common)
        again = self.run_norm(mode="train", **self.running, **self.common)
        for name in train:
            np.testing.assert_array_equal(train[name], again[name])

    def test_inputs_stay(self):
        before = self.tree()
        self.run_norm(mode="train", **self.running, **self.common)
        after = self.tree()
        for path, contents in before.items():
            self.assertEqual(after[path], contents, path)

    def test_directories_are_made(self):
        for out in ("a", "a/b/c/", "./d//e", "a/../f", self.path("absolute")):
            with self.subTest(out=out):
                result = self.clnorm(*self.arguments(out=out))
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                names = sorted(os.listdir(self.path(out)))
                self.assertEqual([name for name in names if name.endswith(".npy")], self.train_files)
                self.assertEqual(np.load(os.path.join(self.path(out), "y.npy")).shape, (6, 4))

    def test_files_are_replaced(self):
        """Running statistics can be updated in place, step after step."""
        os.mkdir(self.path("state"))
        self.save("state/running_mean.npy", np.zeros(4))
        self.save("state/running_var.npy", np.ones(4))
        running = {"running_mean": "state/running_mean.npy", "running_var": "state/running_var.npy"}
        mean = np.zeros(4)
        for _ in range(3):
            self.assertEqual(self.clnorm(*self.arguments(out="state", momentum="0.5", **running)).returncode, 0)
            mean = 0.5 * mean + 0.5 * self.x.astype(np.float64).mean(0)
            np.testing.assert_allclose(np.load(self.path("state/running_mean.npy")), mean, rtol=0, atol=1e-6)
        self.assertEqual(len(os.listdir(self.path("state"))), 6)

    def test_permissions_are_the_users(self):
        old = os.umask(0o027)
        try:
            self.assertEqual(self.clnorm(*self.arguments()).returncode, 0)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("out")).st_mode), 0o750)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("out/y.npy")).st_mode), 0o640)


class Refused(OutputTest):
    """Every way in which writing can fail leaves the tree as it was."""

    def refuse(self, pattern, out="out", **options):
        self.assert_refused(self.arguments(out=out), "^clnorm run: " + pattern, **options)

    def test_out_is_no_directory(self):
        self.refuse("x.npy: the directory cannot be made: Not a directory", out="x.npy")
        self.refuse("x.npy/deep/er: the directory cannot be made: Not a directory", out="x.npy/deep/er")
        self.refuse(": the directory cannot be made: No such file or directory", out="")
        self.refuse("/proc/no/such: the directory cannot be made", out="/proc/no/such")

    def test_target_is_a_directory(self):
        for name in ("y", "var", "rstd"):  # the first, one between, the last
            with self.subTest(name=name):
                os.makedirs(self.path(f"out/{name}.npy"))
                with open(self.path("out/mean.npy"), "wb") as stream:
                    stream.write(b"old")
                self.refuse(f"out/{name}.npy: it cannot be written: Is a directory")
                os.rmdir(self.path(f"out/{name}.npy"))

    def test_new_directories_are_removed(self):
        long = "n" * 255  # as long as a name may be, so that the parents can be made, and "…/y.npy" cannot be reached
        too_long = "/".join(["deep", *["d" * 200] * 21])
        self.refuse("deep/.*: the directory cannot be made: File name too long", out=too_long)
        self.refuse("new/n+: the directory cannot be made: File name too long", out=f"new/{long}n")
        os.mkdir(self.path("kept"))
        self.refuse("kept/new/n+: the directory cannot be made", out=f"kept/new/{long}n")

    def test_disk_is_full(self):
        """A limit on the size of files stands in for it; the empty batch writes a short y before a long mean."""
        for samples, limits, name in ((2, (0, 100, 5000, 130000, 200000), "y"), (0, (128, 5000, 119000), "mean")):
            self.save("x.npy", np.zeros((samples, 30000)))
            for limit in limits:
                with self.subTest(samples=samples, limit=limit):

                    def limited(most=limit):
                        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

                    pattern = f"new/out/{name}.npy: it cannot be written: File too large"
                    self.refuse(pattern, out="new/out", preexec_fn=limited)

    def test_old_results_stay(self):
        """A run that fails at a file small enough to be buffered to the end has not replaced the ones before it."""
        self.save("x.npy", np.zeros((0, 300)))
        self.assertEqual(self.clnorm(*self.arguments()).returncode, 0)
        for name in self.train_files:
            with open(self.path("out/" + name), "ab") as stream:
                stream.write(b"old")

        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

        self.refuse("out/mean.npy: it cannot be written: File too large", preexec_fn=limited)

    def test_argument_errors_write_nothing(self):
        """What only the library finds, after files were read and a device was opened, leaves no directory either."""
        for options in ({"eps": "-1"}, {"eps": "nan"}, {"device": "no such device"}):
            with self.subTest(options=options):
                self.assert_refused(self.arguments(out="new/out", **options), "CLNORM_E_")


if __name__ == "__main__":
    support.main()
