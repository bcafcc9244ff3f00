#!/bin/bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: scripts/test.sh [--short] [--help]

Installs what building and testing need (see scripts/install-deps.sh), builds the library and the program without OpenCL
and with it, in build/cpu-only and build/release, and runs all tests of both: on the CPU, and on PoCL, rusticl and
Intel's CPU runtime. Exit code 0 only if everything passed; ends with ctest's summary.

    --short  leave out the tests that take long
    --help   this text
END
}

# The cases of the short suite are all in parity-full@….
selection=(--exclude-regex '^parity_short_suite$')
for argument; do
    case $argument in
    --help) usage; exit 0 ;;
    --short) selection=(--label-regex '^short$') ;;
    *) usage_error "'$argument' is not an option" ;;
    esac
done

section "Packages"
environment=$("$root/scripts/install-deps.sh" build demo test)
eval "$environment"
echo "all present"

jobs=$(nproc)
cd "$root"
build() {
    section "Build: $1"
    cmake --preset "$1" --log-level=WARNING -DCLNORM_WERROR=ON
    cmake --build --preset "$1" --parallel "$jobs"
}
status=0
run_tests() {
    section "Tests: $1"
    ctest --preset "$1" --parallel "$jobs" "${selection[@]}" || status=1
}

build cpu-only
build release

section "OpenCL implementations"
"$root/scripts/check-platforms.sh" "$root/build/release/tools/clnorm"

run_tests cpu-only
run_tests release
exit $status
