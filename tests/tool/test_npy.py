"""Damaged and foreign .npy files: a clear sentence and exit code 2, no crash, and never another array than NumPy's."""

import io
import os
import re
import shutil
import struct

import numpy as np
from numpy.lib import format as npy_format

import support

STEP = 1 if support.LONG else 7


def npy_bytes(array, version=(1, 0)):
    stream = io.BytesIO()
    npy_format.write_array(stream, array, version=version)
    return stream.getvalue()


def with_header(text, data=b"", version=(1, 0)):
    """A file with any header text."""
    if isinstance(text, str):
        text = text.encode("utf-8")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


class NpyTest(support.ToolTest):
    def write(self, data):
        with open(self.path("x.npy"), "wb") as stream:
            stream.write(data)

    def arguments(self, layout="nc", x="x.npy"):
        return ["run", "--mode", "train", "--layout", layout, "--x", x, "--device", "cpu", "--out", "out"]

    def refuse(self, data, pattern):
        self.write(data)
        self.assert_refused(self.arguments(), r"^clnorm run: x\.npy: " + pattern)

    def accept(self, data, want, layout="nc"):
        """The file is read as want: the mean of its one sample per channel is x itself, exactly."""
        self.write(data)
        out = self.run_norm(mode="train", layout=layout, x="x.npy", device="cpu")
        np.testing.assert_array_equal(out["mean"], want.reshape(-1))


class Accepted(NpyTest):
    x = np.array([[1.5, -2.25, 3e-30, 1e30]], dtype=np.float32)

    def test_versions(self):
        for version in ((1, 0), (2, 0), (3, 0)):
            with self.subTest(version=version):
                self.accept(npy_bytes(self.x, version), self.x)

    def test_forms_of_the_header(self):
        data = self.x.tobytes()
        for text in (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }\n",
            '{"shape":(1,4,),"fortran_order":False,"descr":"<f4"}',
            "  {\t'shape' : ( 1 ,\n4 ) , 'descr' : '<f4' , 'fortran_order' : False }  \n\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 4L), }" + " " * 60000 + "\n",
        ):
            with self.subTest(text=text[:80]):
                self.accept(with_header(text, data), self.x)
        for version in ((2, 0), (3, 0)):
            text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }" + " " * 200000 + "\n"
            self.accept(with_header(text, data, version), self.x)

    def test_written_files_are_numpys(self):
        """The files that are written have the bytes that NumPy reads back and finds aligned."""
        rng = np.random.default_rng(2)
        for shape in ((0, 3), (1, 1), (2, 70000), (3, 2, 5), (2, 3, 4, 5), (2, 3, 1, 4, 2)):
            with self.subTest(shape=shape):
                self.save("x.npy", rng.normal(size=shape))
                layout = "nc" if len(shape) == 2 else "ncs"
                out = self.run_norm(mode="train", layout=layout, x="x.npy", device="cpu")
                self.assertEqual(out["y"].shape, shape)
                self.assertEqual(out["mean"].shape, (shape[1],))
                with open(self.path("out/y.npy"), "rb") as stream:
                    self.assertEqual(npy_format.read_magic(stream), (1, 0))
                    self.assertEqual(npy_format.read_array_header_1_0(stream), (shape, False, np.dtype("<f4")))
                    self.assertEqual(stream.tell() % 64, 0)
                    self.assertEqual(len(stream.read()), 4 * np.prod(shape))


class Refused(NpyTest):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    def test_data_types(self):
        for dtype in (">f4", "<f8", "<f2", "<i4", "|b1", "<c8", "|S4", "<U3"):
            with self.subTest(dtype=dtype):
                shown = re.escape(np.dtype(dtype).str)
                self.refuse(npy_bytes(self.x.astype(dtype)), f"the data type is '{shown}'; it must be '<f4'")
        structure = np.zeros(3, dtype=[("a", "<f4"), ("b", "<f4")])
        self.refuse(npy_bytes(structure), "the data type is a structure; it must be '<f4'")

    def test_fortran_order(self):
        self.refuse(npy_bytes(np.asfortranarray(self.x)), "the data are in Fortran order; they must be in C order")

    def test_not_npy(self):
        self.refuse(b"", "it has 0 bytes")
        self.refuse(b"\x93NUMPY", "it has 6 bytes")
        self.refuse(b"PK\x03\x04" + bytes(100), "it is no .npy file")
        self.refuse(b"1.0 2.0 3.0\n", "it is no .npy file")
        for version in ((0, 0), (1, 1), (4, 0), (255, 255)):
            data = b"\x93NUMPY" + bytes(version) + npy_bytes(self.x)[8:]
            self.refuse(data, rf"it has .npy format version {version[0]}\.{version[1]}; it must be 1.0, 2.0 or 3.0")

    def test_not_files(self):
        os.mkdir(self.path("folder.npy"))
        os.mkfifo(self.path("pipe.npy"))
        os.symlink("nowhere", self.path("link.npy"))
        for name, pattern in (
            ("nothing.npy", "it cannot be read: No such file or directory"),
            ("folder.npy", "it is a directory; it must be a .npy file"),
            ("pipe.npy", "it is no regular file; it must be a .npy file"),
            ("link.npy", "it cannot be read: No such file or directory"),
            ("/dev/zero", "it is no regular file; it must be a .npy file"),
            ("", "it cannot be read: No such file or directory"),
        ):
            with self.subTest(name=name):
                self.assert_refused(self.arguments(x=name), f"^clnorm run: {name}: {pattern}$")

    def test_header_that_lies(self):
        def header(shape):
            return with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n", self.x.tobytes())

        many = "(" + "1, " * 33 + ")"
        for shape, pattern in (
            ("(3, 5)", r"it is cut off; 60 bytes of data must follow the header for the shape \(3, 5\), 48 do"),
            ("(3, 3)", r"it has bytes after its end; 36 bytes of data must follow .* \(3, 3\), 48 do"),
            ("(0, 4)", "it has bytes after its end; 0 bytes"),
            ("()", r"it has bytes after its end; 4 bytes of data must follow the header for the shape \(\), 48"),
            ("(1000000000000, 4)", "it is cut off; 16000000000000 bytes"),
            ("(4294967296, 4294967296)", "the shape .* has more elements than memory can hold"),
            ("(4294967296, 4294967296, 0)", "the shape .* has more elements than memory can hold"),
            ("(6148914691236517205, 3)", "the shape .* has more elements than memory can hold"),
            ("(4611686018427387907, 4)", "the shape .* has more elements than memory can hold"),  # 4·this wraps to 12
            ("(18446744073709551615,)", "the shape .* has more elements than memory can hold"),
            ("(18446744073709551616, 0)", "the header's 'shape' is no tuple of sizes below 2"),
            ("(99999999999999999999999999, 0)", "the header's 'shape' is no tuple of sizes"),
            ("(03, 4)", "the header's 'shape' is no tuple of sizes"),
            ("(-3, -4)", "the header's 'shape' is no tuple of sizes"),
            ("(3., 4)", "the header's 'shape' is no tuple of sizes"),
            ("(12)", "the header's 'shape' is no tuple of sizes"),
            ("12", "the header's 'shape' is no tuple of sizes"),
            ("[3, 4]", "the header's 'shape' is no tuple of sizes"),
            ("(3 4)", "the header's 'shape' is no tuple of sizes"),
            ("(,)", "the header's 'shape' is no tuple of sizes"),
            ("(3, 4", "the header's 'shape' is no tuple of sizes"),
            ("(3, ,4)", "the header's 'shape' is no tuple of sizes"),
            (many, "the array has more than 32 dimensions"),
        ):
            with self.subTest(shape=shape[:40]):
                self.refuse(header(shape), pattern)

    def test_header_that_is_none(self):
        good = "'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)"
        for text, pattern in (
            ("", "the header is damaged at its byte 0"),
            ("\n", "the header is damaged at its byte 1"),
            ("[" + good + "]", "the header is damaged at its byte 0"),
            ("{" + good, "the header is damaged"),
            ("{" + good + "} x", "the header is damaged"),
            ("{" + good + "}\0", "the header is damaged"),
            ("{" + good.replace(",", "", 1) + "}", "the header is damaged"),
            ("{'descr': '<f4'}", "the header has no key 'fortran_order'"),
            ("{'fortran_order': False, 'shape': (3, 4)}", "the header has no key 'descr'"),
            ("{'descr': '<f4', 'fortran_order': False}", "the header has no key 'shape'"),
            ("{" + good + ", 'more': 1}", "the header has the key 'more' too"),
            ("{" + good + ", 'm\x1bre\xe9': 1}", r"the header has the key 'm\?re\?\?' too"),
            ("{" + good + ", 'shape': (3, 4)}", "the header has the key 'shape' twice"),
            ("{" + good.replace("False", "0") + "}", "the header's 'fortran_order' is neither"),
            ("{" + good.replace("'<f4'", "None") + "}", "the header's 'descr' is no string"),
            ("{" + good.replace("<f4", "\\x3cf4") + "}", "the header's 'descr' is no string"),
            ("{" + good.replace("'<f4'", "'<f4\"") + "}", "the data type is '<f4\", '; it must be"),
            ("{'descr': '<f4", "the header's 'descr' is no string"),
            ("{descr: '<f4'}", "the header is damaged at its byte 1"),
        ):
            with self.subTest(text=text):
                self.refuse(with_header(text, self.x.tobytes()), pattern)

    def test_trailing_bytes(self):
        for extra in (1, 4, 1000):
            self.refuse(npy_bytes(self.x) + bytes(extra), rf"it has bytes after its end; 48 .*, {48 + extra} do")

    def test_length_field(self):
        data = npy_bytes(self.x)
        for length in (0, 1, 60, 117, 119, 65535):
            with self.subTest(length=length):
                self.refuse(data[:8] + struct.pack("<H", length) + data[10:], "")
        for length in (2**31, 2**32 - 1):
            self.refuse(
                b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + data[10:],
                rf"it is cut off inside its header; {length} bytes of header must follow byte 12",
            )

    def test_cut_at_any_length(self):
        for version in ((1, 0), (2, 0), (3, 0)):
            data = npy_bytes(self.x, version)
            for length in [*range(0, 16), *range(16, len(data), STEP), len(data) - 1]:
                with self.subTest(version=version, length=length):
                    self.refuse(data[:length], "it (is cut off|has [0-7] bytes)")


class Flipped(NpyTest):
    """Any byte of the header changed: either it is refused, or NumPy reads the same array from it."""

    def test_every_byte(self):
        x = np.arange(1, 13, dtype=np.float32).reshape(1, 12)
        accepted = refused = 0
        for version in ((1, 0), (3, 0)):
            data = npy_bytes(x, version)
            for at in range(len(data) - x.nbytes):
                for flip in (0x01, 0x80, 0xFF) if not support.LONG else (1, 2, 4, 8, 16, 32, 64, 128, 255):
                    if not support.LONG and 90 < at < 118:
                        continue  # blanks, all alike
                    changed = bytearray(data)
                    changed[at] ^= flip
                    self.write(changed)
                    with self.subTest(version=version, at=at, flip=flip):
                        result = self.clnorm(*self.arguments())
                        if result.returncode == 2:
                            self.assertRegex(result.stderr, r"^clnorm run: x\.npy: .*\n$")
                            self.assertEqual((result.stdout, os.listdir(self.directory)), ("", ["x.npy"]))
                            refused += 1
                        else:
                            want = np.load(self.path("x.npy"))
                            self.assertEqual(want.dtype, np.dtype("<f4"))
                            self.accept(changed, want)
                            shutil.rmtree(self.path("out"))
                            accepted += 1
        self.assertGreater(refused, 200)
        print(f"{refused} refused, {accepted} accepted")


if __name__ == "__main__":
    support.main()
