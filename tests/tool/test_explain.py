"""clnorm explain: it names what runs and what that moves, on every device, and refuses what is no shape."""

import re

import support

CALL = re.compile(r"^(forward|backward|infer): (fused|split|apply)(?:,| alone,) for .+\n((?:  .+\n)+)", flags=re.M)
BYTES = re.compile(r"^  bytes an element: (\d+) read from memory, (\d+) written(?:; (\S+) read again from the cache)?$", flags=re.M)


class Explain(support.ToolTest):
    def explained(self, device, layout, shape, *more, calls=("forward", "backward", "infer"), **options):
        """-> the whole text, and of each call the variant, the launches and the bytes an element."""
        result = self.clnorm("explain", "--device", device, "--layout", layout, "--shape", shape, *more, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), (device, layout, shape, more))
        found = {}
        for name, variant, lines in CALL.findall(result.stdout):
            launches = re.findall(r"^  launch (\d+): (\w+), [1-9]\d* work-groups of [1-9]\d*", lines, flags=re.M)
            self.assertEqual([int(number) for number, _ in launches], list(range(1, len(launches) + 1)))
            moved = BYTES.findall(lines)
            self.assertEqual(len(moved), 1, lines)
            found[name] = variant, [kernel for _, kernel in launches], [float(n) for n in moved[0] if n]
        self.assertEqual(list(found), list(calls), result.stdout)
        return result.stdout, found

    def test_every_device(self):
        for device in support.devices():
            for layout, shape in (("nc", "640x512"), ("ncs", "8x16x14x14"), ("nsc", "8x3x64x65")):
                with self.subTest(device=device, layout=layout, shape=shape):
                    text, calls = self.explained(device, layout, shape)
                    family = "segments" if layout == "ncs" else "columns"
                    self.assertIn(f", {family}, ", text[: text.index("\n")])
                    for call, (variant, launches, moved) in calls.items():
                        inputs, output = ("x and dy", "dx") if call == "backward" else ("x", "y")
                        self.assertRegex(text, rf"\n  tensors: {inputs} read \w.*, {output} written once")
                        times = {"fused": 1, "split": 2, "apply": 1}[variant]
                        self.assertEqual(moved[:2], [4 * times * (2 if call == "backward" else 1), 4])
                        self.assertEqual(variant == "apply", call == "infer")
                        if device != "cpu":
                            self.check_launches(call, family, variant, launches)
                            again = (8 if call == "backward" else 4) * (variant == "fused")
                            pivots = moved[2] - again  # statistics alone have them
                            self.assertTrue(0 < pivots <= 4 if call == "forward" else pivots == 0, (call, moved))
                    self.assertRegex(text, r"\nworkspace: [1-9]\d* bytes; state for backward: [1-9]\d* bytes\n$")

    def check_launches(self, call, family, variant, launches):
        if call == "infer":
            want = [f"{family}_forward_apply"]
        elif variant == "fused":
            want = [f"{family}_{call}_fused"]
        else:
            first = "statistics" if call == "forward" else "reduce"
            want = [f"{family}_{call}_{first}", f"groups_{call}_finish", f"{family}_{call}_apply"]
        if call == "forward":
            want.append("groups_forward_commit")
        self.assertEqual(launches, want)

    def test_every_norm(self):
        for device in support.devices():
            for layout, shape, arguments, groups in (
                ("nsc", "8x768x197", ["--norm", "layer"], 8 * 197),
                ("ncs", "8x3x64x65", ["--norm", "rms", "--normalized-dims", "3"], 8),
                ("ncs", "4x320x64x64", ["--norm", "group", "--groups", "32"], 4 * 32),
                ("nsc", "4x320x64x64", ["--norm", "group", "--groups", "1"], 4),
                ("ncs", "4x64x256x256", ["--norm", "instance"], 4 * 64),
                ("nsc", "4x64x32x32", ["--norm", "instance"], 4 * 64),
            ):
                with self.subTest(device=device, layout=layout, arguments=arguments):
                    names = ("forward", "backward", "infer") if "instance" in arguments else ("forward", "backward")
                    text, calls = self.explained(device, layout, shape, *arguments, calls=names)
                    for call, (_, _, moved) in calls.items():
                        inputs, output = ("x and dy", "dx") if call == "backward" else ("x", "y")
                        self.assertRegex(text, rf"\n  tensors: {inputs} read \w.*, {output} written once")
                        self.assertEqual((moved[0] % (8 if call == "backward" else 4), moved[1]), (0, 4))
                    self.assertRegex(text, rf"\nworkspace: [1-9]\d* bytes; state for backward: {12 * groups} bytes\n$")

    def test_why_not_fused(self):
        """Two long channels fit no cache that a work-group or a core has."""
        for device in support.devices():
            with self.subTest(device=device):
                text, calls = self.explained(device, "ncs", "4x2x2048x2048")
                self.assertEqual([calls["forward"][0], calls["backward"][0]], ["split", "split"])
                if device == "cpu":
                    self.assertIn("forward: split, for whole channels do not fit a core's cache; ", text)
                else:
                    self.assertIn("forward: split, for a group is larger than what a work-group keeps in the cache\n", text)
                self.assertIn("x read twice", text)

    def test_wrong_usage(self):
        self.assert_refused(["explain"], "clnorm explain: --layout is missing \\(try clnorm explain --help\\)")
        self.assert_refused(["explain", "--layout", "nc"], "clnorm explain: --shape is missing \\(try clnorm explain --help\\)")
        self.assert_refused(
            ["explain", "--layout", "nc", "--shape", "3x"],
            'clnorm explain: --layout and --shape:1: the shape is "3x" and must be whole numbers joined by x, as in 32x64x56x56',
        )
        self.assert_refused(
            ["explain", "--layout", "nc", "--shape", "3x4x5"],
            'clnorm explain: --layout and --shape:1: the shape is "3x4x5" and must be NxC for layout nc',
        )
        for arguments, pattern in (
            (["--norm", "rows"], "--norm is 'rows'; it must be batch, layer, group, instance or rms"),
            (["--norm", "group"], "--groups is missing; group norm needs the number of groups"),
            (["--norm", "group", "--groups", "3"], "--groups is 3 and must be a divisor of the 4 channels"),
            (["--normalized-dims", "1"], "--normalized-dims is given; it goes with layer and RMS norm alone"),
        ):
            self.assert_refused(["explain", "--layout", "nc", "--shape", "3x4", *arguments], pattern)


if __name__ == "__main__":
    support.main()
