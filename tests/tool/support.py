"""What the tests of the program share: running it, the devices under test, and comparisons in which a NaN fails."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

TOOL = os.environ["CLNORM_TOOL"]
WITH_OPENCL = os.environ["CLNORM_TEST_OPENCL"] == "1"
LONG = os.environ.get("CLNORM_TEST_LONG") == "1"
DEFAULT_DEVICES = "cpu,Portable Computing Language,rusticl,Intel(R) OpenCL" if WITH_OPENCL else "cpu"

# Half the distance from 1 to the next f32: the u of the contract's bounds.
U = 2.0**-24


def devices():
    """The devices that must be there, as the C suites take them: names, separated by commas."""
    return (os.environ.get("CLNORM_TEST_DEVICES") or DEFAULT_DEVICES).split(",")


def clnorm(*arguments, **options):
    """Runs the program to its end. A death by a signal (a negative code) is never what a test wants."""
    result = subprocess.run(
        [TOOL, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=900,
        check=False,
        **options,
    )
    result.stdout = result.stdout.decode("utf-8", "replace")
    result.stderr = result.stderr.decode("utf-8", "replace")
    if result.returncode < 0:
        raise AssertionError(f"{arguments}: died by signal {-result.returncode}: {result.stderr}")
    return result


def flatten(options):
    """{"eps": 0, "frozen": True, "dy": None} -> ["--eps", "0", "--frozen"]"""
    arguments = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        arguments.append("--" + name.replace("_", "-"))
        if value is not True:
            arguments.append(str(value))
    return arguments


class ToolTest(unittest.TestCase):
    """A test with a directory of its own, in which the program runs."""

    maxDiff = None

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="clnorm-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def save(self, name, array, dtype=np.float32):
        np.save(self.path(name), np.array(array, dtype=dtype, order="C"))
        return name

    def clnorm(self, *arguments, **options):
        return clnorm(*arguments, cwd=self.directory, **options)

    def run_norm(self, **options):
        """clnorm run, which must succeed. -> {"y": array, …}: every file that it wrote."""
        shutil.rmtree(self.path("out"), ignore_errors=True)
        result = self.clnorm("run", *flatten(options), "--out", "out")
        self.assertEqual((result.returncode, result.stderr), (0, ""), options)
        files = sorted(os.listdir(self.path("out")))
        for file in files:
            self.assertTrue(file.endswith(".npy"), file)
        return {file[:-4]: np.load(self.path("out/" + file)) for file in files}

    def assert_refused(self, arguments, pattern, code=2, **options):
        """One line on stderr that matches, nothing on stdout, the exit code, and no new file anywhere."""
        before = self.tree()
        result = self.clnorm(*arguments, **options)
        self.assertEqual(result.returncode, code, (arguments, result.stderr))
        self.assertEqual(result.stdout, "", arguments)
        self.assertEqual(result.stderr.count("\n"), 1, (arguments, result.stderr))
        self.assertTrue(result.stderr.endswith("\n"), result.stderr)
        self.assertRegex(result.stderr, pattern, arguments)
        self.assertEqual(self.tree(), before, arguments)

    def tree(self):
        """Every directory and file below the test's own, with its contents."""
        found = {}
        for folder, folders, files in os.walk(self.directory):
            for name in folders:
                found[os.path.join(folder, name)] = None
            for name in files:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as stream:
                        found[path] = stream.read()
        return found

    def assert_within(self, got, want, tolerance, what=""):
        """Every |got − want| ≤ tolerance, of the same shape; written so that a NaN anywhere fails."""
        self.assertEqual(got.dtype, np.float32, what)
        self.assertEqual(got.shape, np.shape(want), what)
        difference = np.abs(np.asarray(got, np.longdouble) - want)
        tolerance = np.broadcast_to(tolerance, difference.shape)
        good = difference <= tolerance
        if not np.all(good):
            where = np.unravel_index(np.argmin(good), good.shape)
            self.fail(
                f"{what}: {np.sum(~good)} of {good.size} are off; at {tuple(map(int, where))}: {got[where]!r} is not "
                f"{float(np.asarray(want)[where])!r} within {float(tolerance[where])!r}"
            )


def main():
    unittest.main(verbosity=2 if LONG else 1, argv=sys.argv)
