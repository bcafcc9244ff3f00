#!/bin/bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: scripts/check-oclgrind.sh PROGRAM [PART]

Runs the short parity cases of PROGRAM (clnorm), or those whose name has PART, in Oclgrind's simulator, which checks every
access to memory: out of bounds, uninitialized, data races. Fails on any finding, or if a case fails.
END
}
case ${1-} in
--help) usage; exit 0 ;;
"" | -*) usage_error "a program must be named" ;;
esac
[[ $# -le 2 ]] || usage_error "there are at most two arguments"

export program_under_test=$1
export scratch
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Oclgrind 21.10 keeps one record of what is initialized for a buffer's number and makes it anew, of the size written, at every
# write, fill or copy by the host. Hence one process a case, for a second plan reuses numbers; and cases of several parts, of no
# samples or of virtual batches, which write, fill or copy a part of a buffer, go without --uninitialized. Without optimization, for it knows neither clang's freeze nor
# noalias.scope.decl. The library's cache is off so that no other build's binary comes in.
run_case() {
    local log=$scratch/$1.log out=$scratch/$1.out checks=(--data-races --uninitialized)
    [[ $1 != *_parts* && $1 != *_n0c* && $1 != *_virtual* ]] || checks=(--data-races)
    if ! CLNORM_CACHE=off CLNORM_TUNING=default oclgrind --num-threads 1 --build-options "-cl-opt-disable -DCLNORM_SIMULATED" "${checks[@]}" --log "$log" \
        "$program_under_test" parity --devices Oclgrind --suite short --case "$1" >"$out" 2>&1; then
        echo "FAILED $1"
        cat "$out"
        [[ ! -e $log ]] || head -n 40 "$log"
        return 1
    elif ! grep -qx '1 passed, 0 failed' "$out"; then
        echo "FAILED $1: it is not one case that ran"
        cat "$out"
        return 1
    elif [[ ! -e $log ]]; then
        echo "FAILED $1: Oclgrind wrote no log"
        return 1
    elif [[ -s $log ]]; then
        echo "FAILED $1: Oclgrind's findings begin with"
        head -n 40 "$log"
        return 1
    fi
}
export -f run_case

names=$("$program_under_test" parity --list --suite short | awk 'NF {print $1}')
for name in $names; do
    if [[ $name == *"${2-}"* ]]; then
        echo "$name"
    fi
done >"$scratch/cases"
count=$(wc -l <"$scratch/cases")
[[ $count -gt 0 ]] || fail "no case was found"
xargs -a "$scratch/cases" -P "$(nproc)" -I{} bash -c 'run_case {}' || fail "Oclgrind found errors in the cases above"
echo "$count of $(wc -l <<<"$names") cases ran in Oclgrind without a finding."
