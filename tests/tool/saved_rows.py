"""What the tests of clnorm tune share."""

import json
import os
import re

import support

OPENCL_DEVICES = [device for device in support.devices() if device != "cpu"]


class SavedRows(support.ToolTest):
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
