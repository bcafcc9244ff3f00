"""clnorm tune: its options, what it saves and forgets, and that nothing else is touched."""

import os
import re

import support
from saved_rows import OPENCL_DEVICES, SavedRows

NUMBERS = re.compile(r"\d+")


class Tune(SavedRows):
    """Nothing here depends on what is measured."""

    def test_wrong_usage(self):
        for options, pattern in (
            (["--seconds", "0"], "--seconds is 0 and must be from 1 to 86400$"),
            (["--seconds", "86401"], "--seconds is 86401 and must be from 1 to 86400$"),
            (["--seconds", "x"], '--seconds is "x" but must be a number in range'),
            (["--export", "--forget"], "--export, --forget and what measures .* exclude each other$"),
            (["--export", "--quick"], "--export, --forget and what measures .* exclude each other$"),
            (["--forget", "--dry-run"], "--export, --forget and what measures .* exclude each other$"),
            (["--device", "cpu"], "--device is cpu, the CPU path, which has no row; it must be an OpenCL device$"),
            (["--device", "cpu", "--export"], "--device is cpu, the CPU path, which has no row"),
            (["--device", "cpu", "--forget"], "--device is cpu, the CPU path, which has no row"),
            (["--device", "no-such-device"], 'name is "no-such-device" but must be'),
            (["row"], "row: no such operand is taken"),
        ):
            with self.subTest(options=options):
                self.assert_refused(["tune", *options], "^clnorm tune: .*" + pattern)

    def test_row_in_the_environment(self):
        environment = dict(self.environment, CLNORM_TUNING="segments")
        self.assert_refused(
            ["tune", "--device", "cpu"],
            '^clnorm tune: CLNORM_TUNING is "segments", which would be taken instead of what is found; it must be unset '
            'or "default"$',
            env=environment,
        )

    def test_export_and_forget(self):
        for name in OPENCL_DEVICES:
            with self.subTest(device=name):
                table = self.listed(name)
                self.assertEqual(table["tuning_source"], "table")
                numbers = NUMBERS.findall(table["tuning"])
                line = self.succeed("tune", "--device", name, "--export")
                self.assertRegex(line, r'^    \{CLNORM_CLASS_CPU, "[^"]+", "[^"]+", "[^"]+", \{[\d, ]+\}\},\n$')
                self.assertIn(f', "{table["platform"]}", "{table["name"]}", {{{", ".join(numbers)}}}}},', line)
                other = table["tuning"].replace(" waves " + numbers[-1], " waves 3")
                path = self.save(name, other)
                self.assertEqual(self.listed(name)["tuning_source"], "tuned, " + path)
                self.assertIn(", 3}},\n", self.succeed("tune", "--device", name, "--export"))
                for _ in range(2):  # the second time there is nothing to forget
                    text = self.succeed("tune", "--device", name, "--forget")
                    self.assertTrue(text.startswith("forgotten for opencl:"), text)
                    self.assertTrue(text.endswith(f"\nin force     {table['tuning']}\nfrom         table\n"), text)
                    self.assertEqual(self.listed(name), table)
                self.assertFalse(os.path.exists(path))

    def test_dry_run(self):
        """One second is enough for nothing but the comparison of the row with itself, on any machine."""
        for name in OPENCL_DEVICES:
            with self.subTest(device=name):
                text = self.succeed("tune", "--device", name, "--quick", "--dry-run", "--seconds", "1")
                self.assertIn("\nin force     " + self.listed(name)["tuning"] + "\nfrom         table\n", text)
                self.assertRegex(text, r"\ntried        \d+ rows")
                self.assertRegex(text, r"\nnot saved    (for --dry-run|nothing is better by more than the margin)\n$")
                self.assertEqual(os.listdir(self.home), [])

    def test_rows_that_are_ignored_stay(self):
        """A file that is no row is not touched until there is a better one."""
        for name in OPENCL_DEVICES[:1]:
            path = self.save(name, self.listed(name)["tuning"])
            with open(path, "w", encoding="utf-8") as stream:
                stream.write("a row")
            text = self.succeed("tune", "--device", name, "--quick", "--seconds", "1")
            self.assertIn(f"\nfrom         table; {path} is ignored: ", text)
            with open(path, encoding="utf-8") as stream:
                self.assertEqual(stream.read() == "a row", "\nsaved for " not in text, text)


if __name__ == "__main__":
    support.main()
