#!/bin/bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

# Tests run on the devices that are there; so that a missing one cannot pass for a tested one, this fails.
if [[ $# -ne 1 || $1 == --help ]]; then
    echo "usage: scripts/check-platforms.sh PROGRAM: fails unless PROGRAM (clnorm) sees PoCL, rusticl and Intel's CPU runtime"
    [[ ${1-} == --help ]] && exit 0
    exit 2
fi

devices=$("$1" devices --json)
python3 - "$devices" <<'END'
import json
import sys

devices = json.loads(sys.argv[1])
devices = devices["devices"] if isinstance(devices, dict) else devices
for device in devices:
    print(f"{device['id']:12} {device['name']} ({device['platform']})")
platforms = " | ".join(device["platform"] for device in devices)
missing = [name for name in ("Portable Computing Language", "rusticl", "Intel(R) OpenCL") if name not in platforms]
sys.exit(f"check-platforms.sh: no device of these OpenCL platforms: {', '.join(missing)}" if missing else 0)
END
