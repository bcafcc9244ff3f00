# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for those who source this
# Shared by the scripts beside it; sourced, after `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(basename "$0")

# One sentence on stderr; exit code 2 for wrong usage, 1 for anything that failed.
usage_error() {
    echo "$program: $*; see $program --help" >&2
    exit 2
}
fail() {
    echo "$program: $*" >&2
    exit 1
}

section_start=0
section_name=
# Prints a heading, and how long the section before took.
section() {
    section_end
    section_name=$*
    section_start=$SECONDS
    printf '\n==== %s ====\n' "$*"
}
section_end() {
    if [[ -n $section_name ]]; then
        printf -- '---- %s: %d s\n' "$section_name" $((SECONDS - section_start))
        section_name=
    fi
}

# Where downloaded test tools live: OpenCL runtimes and ptxas, shared by all checkouts of a user.
testbed=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/clnorm-testbed
