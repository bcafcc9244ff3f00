"""clnorm tune: what it finds is saved and taken by later runs; nothing else is touched. On PoCL where something is measured."""

import json
import os
import re

import support

OPENCL_DEVICES = [device for device in support.devices() if device != "cpu"]
NUMBERS = re.compile(r"\d+")


class Tune(support.ToolTest):
    """With a folder of its own for saved rows, and no CLNORM_TUNING."""

    def setUp(self):
        super().setUp()
        self.home = self.path("home")
        os.mkdir(self.home)
        self.environment = {key: value for key, value in os.environ.items() if key != "CLNORM_TUNING"}
        self.environment["XDG_DATA_HOME"] = self.home

    def clnorm(self, *arguments, **options):
        return super().clnorm(*arguments, **{"env": self.environment, **options})

    def succeed(self, *arguments, **options):
        result = self.clnorm(*arguments, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
        return result.stdout

    def listed(self, name):
        """What clnorm devices has of a device."""
        for device in json.loads(self.succeed("devices", "--json")):
            if name.lower() in f"{device['name']} {device['platform']}".lower():
                return device
        return self.fail(f"no device '{name}'")

    def saved_file(self, name):
        """Where the device's row is saved, as told where that is impossible."""
        environment = dict(self.environment, XDG_DATA_HOME=os.devnull)
        result = self.clnorm("tune", "--device", name, env=environment)
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertRegex(result.stderr, r"^clnorm tune: a row could not be saved: .* cannot be written: Not a directory ")
        path = re.search(re.escape(os.devnull) + r"(/clnorm/tuning/\S+\.txt)", result.stderr)
        return self.home + path[1]

    def save(self, name, row):
        device, path = self.listed(name), self.saved_file(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(f"clnorm-tuning 1\nplatform {device['platform']}\ndevice {device['name']}\ndriver 1\nrow {row}\n")
        self.assertEqual(self.listed(name)["tuning"], row)
        return path

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

    def test_found_row_is_taken(self):
        """From a row that fuses nothing and has one work-group a compute unit."""
        for name in OPENCL_DEVICES:
            if name != "Portable Computing Language":
                continue
            slow = re.sub(r"fused \d+ waves \d+$", "fused 0 waves 1", self.listed(name)["tuning"])
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
