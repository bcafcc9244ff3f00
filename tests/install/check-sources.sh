#!/bin/bash
# check-sources.sh ROOT OPENCL(ON|OFF) COMPILER…: the arrows between the levels of the code, and that the public headers
# stand alone. Without OpenCL its headers may be missing, and so opencl.h is left out.
set -euo pipefail
root=$1 opencl=$2
shift 2
status=0
complain() {
    echo "check-sources.sh: $*" >&2
    status=1
}

# Every level may include itself, the public header and what is named here. An implementation (cpu, host) includes the
# interface it fills in (backend), never the other way round; only host may know OpenCL's headers.
declare -A below=(
    [src/base]=""
    [src/view]="base"
    [src/backend]="view base"
    [src/cpu]="cpu/simd backend view base"
    [src/cpu/simd]="cpu"
    [src/plan]="backend view base"
    [src/api]="plan backend view base"
    [host]="backend view base"
)
cd "$root"
files=0
while IFS= read -r file; do
    files=$((files + 1))
    level=${file%/*}
    if [[ -z ${below[$level]+known} ]]; then
        complain "$file is in no known level"
        continue
    fi
    while read -r header; do
        case $header in
        clnorm/clnorm.h) ;;
        CL/* | clnorm/opencl.h)
            [[ $level == host ]] || complain "$file includes $header: only host/ may"
            ;;
        */*)
            directory=${header%/*}
            [[ -d src/$directory ]] || continue # the system's
            if [[ $level != "src/$directory" && " ${below[$level]} " != *" $directory "* ]]; then
                complain "$file includes $header, which is not below $level"
            fi
            ;;
        *) # A name without a folder is the system's or, in host/ alone, a neighbour's.
            if [[ -e host/$header && $level != host ]]; then
                complain "$file includes $header of host/"
            fi
            ;;
        esac
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]([^>"]+)[>"].*/\1/p' "$file")
done < <(find src host -name '*.[ch]' | sort)
[[ $files -gt 0 ]] || complain "no source file found below $root"

# Nothing outside includes what is inside: programs, tests and examples are users.
internal='#[[:space:]]*include[[:space:]]*["<](base|view|backend|cpu|plan|api|host|src)/'
if grep -rnE "$internal" --include='*.[ch]' --include='*.cpp' tools tests examples bench include; then
    complain "the lines above include an internal header"
fi

# Each public header alone, in both languages.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I include)
for compiler; do
    for header in include/clnorm/*.h; do
        if [[ $opencl == OFF && $header == */opencl.h ]]; then
            continue
        fi
        printf '#include <clnorm/%s>\n' "${header##*/}" | tee "$scratch/alone.c" >"$scratch/alone.cpp"
        "$compiler" -std=c11 "${flags[@]}" "$scratch/alone.c" || complain "$header is not valid C11 for $compiler"
        "$compiler" -x c++ -std=c++17 "${flags[@]}" "$scratch/alone.cpp" || complain "$header is not valid C++17 for $compiler"
    done
done
exit $status
