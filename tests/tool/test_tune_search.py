"""clnorm tune on PoCL: a faster row is found, saved and taken by later runs."""

import re

import support
from saved_rows import OPENCL_DEVICES, SavedRows


class Search(SavedRows):
    """What is measured decides, so these stay out of sanitizer builds."""

    def test_found_row_is_taken(self):
        """From a row that fuses nothing and has one element a step, which is slower by far more than any margin."""
        for name in OPENCL_DEVICES:
            if name != "Portable Computing Language":
                continue
            slow = "segments w1 g1 s1 columns w1 g1 l1 s1 groups g16 fused 0 waves 32"
            path = self.save(name, slow)
            for _ in range(3):  # on a busy machine the margin may be too large for any gain
                text = self.succeed("tune", "--device", name, "--quick", "--seconds", "15")
                self.assertIn(f"\nin force     {slow}\nfrom         tuned, {path}\n", text)
                if "\nsaved for " in text:
                    break
                self.assertTrue(text.endswith("\nnot saved    nothing is better by more than the margin\n"), text)
                self.assertEqual(self.listed(name)["tuning"], slow)
            found = re.search(r"^row found    (.*)$", text, flags=re.M)[1]
            self.assertTrue(text.endswith(f"\nin force     {found}\nfrom         tuned, {path}\n"), text)
            self.assertNotEqual(found, slow)
            self.assertRegex(found, re.escape(slow[: slow.index("fused")]) + r"fused \d+ waves \d+$")
            ratio = float(re.search(r"^it takes     ([\d.]+) of the time", text, flags=re.M)[1])
            margin = float(re.search(r"^margin       ([\d.]+) %$", text, flags=re.M)[1])
            self.assertLess(ratio, 1 - margin / 100 + 1e-3)
            self.assertEqual((self.listed(name)["tuning"], self.listed(name)["tuning_source"]), (found, "tuned, " + path))
            self.assertIn("launch shape from: tuned, ", self.succeed("explain", "--device", name, "--layout", "nc", "--shape", "64x64"))
            with open(path, encoding="utf-8") as stream:
                self.assertIn(f"\nrow {found}\n", stream.read())


if __name__ == "__main__":
    support.main()
