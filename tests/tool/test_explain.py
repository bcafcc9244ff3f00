"""clnorm explain: it names what runs, on every device, and refuses what is no shape."""

import support


class Explain(support.ToolTest):
    def explained(self, device, layout, shape, *more):
        result = self.clnorm("explain", "--device", device, "--layout", layout, "--shape", shape, *more)
        self.assertEqual((result.returncode, result.stderr), (0, ""), (device, layout, shape, more))
        return result.stdout

    def test_every_device(self):
        for device in support.devices():
            for layout, shape in (("nc", "640x512"), ("ncs", "8x16x14x14"), ("nsc", "8x3x64x65")):
                with self.subTest(device=device, layout=layout, shape=shape):
                    text = self.explained(device, layout, shape)
                    lines = text.rstrip("\n").split("\n")
                    family = "segments" if layout == "ncs" else "columns"
                    self.assertIn(f", {family}, ", lines[0])
                    for call, output in (("forward", "y"), ("backward", "dx")):
                        line = [line for line in lines if line.startswith(call + ": ")]
                        self.assertEqual(len(line), 1, text)
                        self.assertIn(f"{output} written once", line[0])
                        if device != "cpu":
                            variant = "fused" if ": fused" in line[0] else "apply"
                            self.assertIn(f"{family}_{call}_{variant}", line[0])
                    self.assertRegex(lines[-1], r"^workspace: [1-9]\d* bytes; state for backward: [1-9]\d* bytes$")

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
                    text = self.explained(device, layout, shape, *arguments)
                    for call, output in (("forward", "y"), ("backward", "dx")):
                        line = [line for line in text.split("\n") if line.startswith(call + ": ")]
                        self.assertEqual(len(line), 1, text)
                        self.assertIn(f"{output} written once", line[0])
                    self.assertRegex(text, rf"\nworkspace: [1-9]\d* bytes; state for backward: {12 * groups} bytes\n$")

    def test_why_not_fused(self):
        """Two long channels fit no cache that a work-group has; a row of tuning fixes what that is."""
        for device in support.devices():
            if device == "cpu":
                continue
            with self.subTest(device=device):
                text = self.explained(device, "ncs", "4x2x2048x2048")
                self.assertIn("split, for a group is larger than what a work-group keeps in the cache", text)
                self.assertIn("x read twice", text)
                self.assertIn("20 bytes an element", text)

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
