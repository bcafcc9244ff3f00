#!/bin/bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: scripts/demo.sh [--out DIR] [--device NAME] [--help]

Installs what it needs (see scripts/install-deps.sh), builds the program in build/demo, trains a small network on
handwritten digits with and without batch normalization, and tells where the report is. If this machine has no OpenCL
device, PoCL is installed, which runs on the processor.

    --out DIR      where the report goes (default: out/demo in this tree)
    --device NAME  a device as 'clnorm devices' lists them (default: opencl, the first OpenCL device)
    --help         this text
END
}

out=$root/out/demo
device=opencl
while [[ $# -gt 0 ]]; do
    case $1 in
    --help) usage; exit 0 ;;
    --out | --device)
        [[ $# -ge 2 && -n $2 ]] || usage_error "$1 needs a value"
        if [[ $1 == --out ]]; then out=$2; else device=$2; fi
        shift 2
        ;;
    *) usage_error "'$1' is not an option" ;;
    esac
done

"$root/scripts/install-deps.sh" build demo

echo "Building"
build=$root/build/demo
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCLNORM_TESTS=OFF -DCLNORM_EXAMPLES=OFF --log-level=WARNING
cmake --build "$build" --parallel "$(nproc)" -- --quiet
clnorm=$build/tools/clnorm

if ! "$clnorm" devices | grep -q '^ *opencl:'; then
    "$root/scripts/install-deps.sh" device
fi
# It ends by telling where its report is.
"$clnorm" demo covariate-shift --data digits --device "$device" --out "$out"
[[ -s $out/report.html ]] || fail "the demo wrote no $out/report.html"
