"""What the machine fails at, not the user: exit code 1, one line on stderr, nothing written."""

import os
import resource

import support


class Memory(support.ToolTest):
    def test_out_of_memory(self):
        """x fits into the limit once, not twice; it is a file with a hole, and takes no place on the disk."""
        size, limit = 400 * 2**20, 700 * 2**20
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {size // 4}), }}\n".encode()
        with open(self.path("x.npy"), "wb") as stream:
            stream.write(b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header)
            stream.truncate(stream.tell() + size)
        before = os.listdir(self.directory)
        result = self.clnorm(
            *["run", "--mode", "train", "--layout", "nc", "--x", "x.npy", "--device", "cpu", "--out", "out"],
            env=dict(os.environ, OPENBLAS_NUM_THREADS="1"),  # or its buffers take most of the limit on a large machine
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertRegex(result.stderr, r"^clnorm run: .*memory.*\n$")
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertEqual(os.listdir(self.directory), before)


if __name__ == "__main__":
    support.main()
