"""clnorm devices: the list as JSON and as text, and that it has every device the tests need."""

import json
import os
import re
import subprocess

import support

KEYS = {
    "id": str,
    "name": str,
    "platform": str,
    "version": str,
    "driver": str,
    "class": str,
    "memory": int,
    "max_allocation": int,
    "local_memory": int,
    "compute_units": int,
    "work_group_size": int,
    "fp64": bool,
    "fp16": bool,
    "subgroups": bool,
    "tuning": str,
    "tuning_source": str,
}

UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]


class Devices(support.ToolTest):
    def listed(self, **options):
        result = self.clnorm("devices", "--json", **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return json.loads(result.stdout)

    def test_json(self):
        listed = self.listed()
        self.assertEqual(listed[0]["id"], "cpu")
        self.assertEqual(listed[0]["class"], "host")
        self.assertEqual(len({device["id"] for device in listed}), len(listed))
        for device in listed:
            with self.subTest(device=device["id"]):
                self.assertEqual({key: type(value) for key, value in device.items()}, KEYS)
                self.assertRegex(device["id"], r"^(cpu|opencl:\d+\.\d+)$")
                self.assertIn(device["class"], ("host", "cpu", "gpu", "accelerator"))
                for key in ("name", "platform", "version", "tuning"):
                    self.assertNotEqual(device[key], "", key)
                for key in ("memory", "max_allocation", "compute_units", "work_group_size"):
                    self.assertGreater(device[key], 0, key)
                self.assertLessEqual(device["max_allocation"], device["memory"])
                self.assertEqual(device["tuning_source"], "" if device["class"] == "host" else "table")
                if device["class"] != "host":
                    self.assertGreaterEqual(device["local_memory"], 1024)  # OpenCL 1.2 promises that of any profile

    def test_needed_devices_are_there(self):
        listed = self.listed()
        for wanted in support.devices():
            found = [d["id"] for d in listed if wanted.lower() in f"{d['id']} {d['name']} {d['platform']}".lower()]
            self.assertTrue(found, f"no device '{wanted}'; set CLNORM_TEST_DEVICES to what this machine has")
        if not support.WITH_OPENCL:
            self.assertEqual([device["id"] for device in listed], ["cpu"])

    def test_cpu_alone_without_platforms(self):
        empty = self.path("empty")
        os.mkdir(empty)
        environment = dict(os.environ, OCL_ICD_VENDORS=empty, OPENCL_VENDOR_PATH=empty)
        self.assertEqual([device["id"] for device in self.listed(env=environment)], ["cpu"])

    def test_text(self):
        result = self.clnorm("devices")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        blocks = re.split(r"\n(?! )", result.stdout.rstrip("\n"))
        listed = self.listed()
        self.assertEqual(len(blocks), len(listed))
        for block, device in zip(blocks, listed):
            with self.subTest(device=device["id"]):
                lines = block.split("\n")
                self.assertEqual(lines[0], f"{device['id']}: {device['name']}")
                rows = dict(re.match(r"  (\S.{15}) (.*)$", line).groups() for line in lines[1:])
                rows = {label.strip(): value for label, value in rows.items()}
                self.assertEqual(rows["platform"], device["platform"])
                self.assertEqual(rows["class"], device["class"])
                self.assertEqual(rows["tuning"], device["tuning"])
                self.assertEqual(rows.get("tuning from", ""), device["tuning_source"])
                self.assertEqual(rows["compute units"], str(device["compute_units"]))
                self.assertEqual(rows["work-group size"], str(device["work_group_size"]))
                yes = {name: ("no", "yes")[device[name]] for name in ("fp64", "fp16", "subgroups")}
                self.assertEqual(rows["has"], ", ".join(f"{name} {value}" for name, value in yes.items()))
                for label in ("memory", "max allocation", "local memory"):
                    value, unit = rows[label].split()
                    exact = device[label.replace(" ", "_")] / 1024 ** UNITS.index(unit)
                    self.assertAlmostEqual(float(value), exact, delta=0.05 + 1e-9, msg=label)

    def test_wrong_usage(self):
        self.assert_refused(["devices", "--jason"], "clnorm devices: --jason: unknown option")
        self.assert_refused(["devices", "cpu"], "clnorm devices: cpu: no such operand")
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([support.TOOL, "devices"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, b"clnorm devices: standard output cannot be written\n")


if __name__ == "__main__":
    support.main()
