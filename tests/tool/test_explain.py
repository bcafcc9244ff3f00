"""clnorm explain: it names what runs, on every device, and refuses what is no shape."""

import support


class Explain(support.ToolTest):
    def explained(self, device, layout, shape):
        result = self.clnorm("explain", "--device", device, "--layout", layout, "--shape", shape)
        self.assertEqual((result.returncode, result.stderr), (0, ""), (device, layout, shape))
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


if __name__ == "__main__":
    support.main()
