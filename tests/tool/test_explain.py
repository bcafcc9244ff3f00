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

    def test_virtual_batches(self):
        """Forward and backward are those of a plan of one batch; inference that of a plan without."""
        for device in support.devices():
            for layout, shape, one in (("nc", "645x512", "64x512"), ("ncs", "21x16x14x14", "2x16x14x14")):
                with self.subTest(device=device, layout=layout):
                    batch = one.split("x", maxsplit=1)[0]
                    text, calls = self.explained(device, layout, shape, "--virtual-batch", batch)
                    self.assertIn(f"virtual batches: 11 of up to {batch} samples", text)
                    _, of_one = self.explained(device, layout, one)
                    _, of_all = self.explained(device, layout, shape)
                    for call in calls:
                        self.assertEqual(calls[call], (of_all if call == "infer" else of_one)[call])
                    channels = int(one.split("x")[1])
                    self.assertIn(f"; state for backward: {11 * 3 * 4 * channels} bytes\n", text)
                    text, _ = self.explained(device, layout, shape, "--virtual-batch", "1000")
                    self.assertNotIn("virtual", text)

    def test_types_and_residuals(self):
        """Bytes an element by the contract: z once in forward; in backward it is read with x and dy where the activation is
        worked out again, and dz is written."""
        size = {"f32": 4, "f16": 2, "bf16": 2}
        for device in support.devices():
            for x_type, y_type, act, residual in (
                ("f16", "f16", "none", "none"),
                ("f32", "f32", "none", "after"),
                ("bf16", "f16", "relu", "after"),
                ("bf16", "bf16", "silu", "before"),
            ):  # all of them forms of the table of cases, whose programs other tests need too
                for shape in ("64x512", "8192x8192"):
                    with self.subTest(device=device, types=(x_type, y_type), act=act, residual=residual, shape=shape):
                        more = ("--dtype", x_type, "--y-dtype", y_type, "--act", act, "--residual", residual, "--norm", "rms")
                        _, calls = self.explained(device, "nc", shape, *more, calls=("forward", "backward"))
                        x, y, after = size[x_type], size[y_type], residual == "after"
                        for call, (variant, launches, moved) in calls.items():
                            times = {"fused": 1, "split": 2}[variant]
                            if call == "forward":
                                before = residual == "before"
                                want = [times * x + (after or before) * x, y + before * x]
                            else:
                                # OpenCL has a pass of its own for the weights' gradients, where they are not gathered on the way.
                                times += "columns_backward_weights" in launches
                                want = [times * (x + y + (after and act != "none") * x), x + after * x]
                            self.assertEqual(moved[:2], want, call)

    def test_backward_of_backward_and_from_y(self):
        for device in support.devices():
            for layout, shape, norm in (("nc", "640x512", "layer"), ("ncs", "8x16x14x14", "batch")):
                with self.subTest(device=device, norm=norm):
                    arguments = ["--layout", layout, "--shape", shape, "--norm", norm, "--device", device]
                    result = self.clnorm("explain", *arguments, "--double-backward")
                    self.assertEqual((result.returncode, result.stderr), (0, ""))
                    text = result.stdout[result.stdout.index("\ndouble backward: ") :]
                    self.assertRegex(text, r"\n  tensors: x, dy and v_dx read .*, g_x and g_dy written once\n")
                    # Rows that stay in a core's cache are read again from there; on OpenCL for layer norm's g_weight a third time.
                    moved = ("24", "8", "0")
                    if norm == "layer":
                        moved = ("12", "8", "12") if device == "cpu" else ("36", "8", "0")
                    self.assertEqual(BYTES.findall(text), [moved])
                    result = self.clnorm("explain", *arguments, "--from-y")
                    self.assertEqual((result.returncode, result.stderr), (0, ""))
                    self.assertRegex(result.stdout, r"\nbackward: .*\n(?:  .*\n)*?  tensors: y and dy read ")
        self.assert_refused(
            ["explain", "--layout", "nc", "--shape", "4x4", "--norm", "rms", "--double-backward"],
            "desc.double_backward is 1 but must be 0 for a norm",
        )

    def test_mask(self):
        """Of 2 bytes an element of y: forward reads it once more, and backward reads neither it nor z."""
        for device in support.devices():
            with self.subTest(device=device):
                more = ("--act", "relu", "--residual", "after", "--y-dtype", "f16", "--mask")
                text, calls = self.explained(device, "ncs", "8x64x28x28", *more)
                self.assertEqual(calls["forward"][2][:2], [4 + 4 + 2, 2])
                self.assertEqual(calls["backward"][2][:2], [4 + 2, 4 + 4])
                self.assertEqual(calls["infer"][2][:2], [4 + 4 + 2, 2])
                self.assertEqual(text.count(", y once for the mask, of a bit an element, y written"), 2)
                self.assertEqual(text.count(", and the mask with them, dx and dz written"), 1)
                self.assertEqual(text.count("groups_forward_mask"), 0 if device == "cpu" else 2)
        self.assert_refused(
            ["explain", "--layout", "nc", "--shape", "4x4", "--act", "silu", "--mask"],
            "desc.activation_mask is 1 but must be 0 with another activation",
        )

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
