#!/bin/bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

usage() {
    cat <<END
usage: scripts/install-deps.sh [--list] SET…

Installs what scripts/packages.txt lists for the sets (build, demo, device, test, ci, arm64, compare, torch), where it
is missing: Debian packages by apt-get, as root or by sudo, and into a folder of your cache directory PyPI packages and
what belongs to another architecture (unpacked there; this system gets no foreign architecture):
    $testbed
Says on stderr what it does. Prints on stdout the environment in which the tests find what is in that folder, so that a
script can say
    environment=\$(scripts/install-deps.sh build test) && eval "\$environment"

    --list   only print what is missing, one package a line
    --help   this text
END
}

sets=()
list_only=false
for argument; do
    case $argument in
    --help) usage; exit 0 ;;
    --list) list_only=true ;;
    build | demo | device | test | ci | arm64 | compare | torch) sets+=("$argument") ;;
    *) usage_error "'$argument' is not an option or one of the sets build, demo, device, test, ci, arm64, compare, torch" ;;
    esac
done
[[ ${#sets[@]} -gt 0 ]] || usage_error "no set is named"

has_set() {
    [[ " ${sets[*]} " == *" $1 "* ]]
}

debian=()
declare -A pypi=() # by set
foreign=()
while read -r set package _; do
    if [[ $set == \#* ]] || ! has_set "$set"; then
        continue
    elif [[ $package == nvidia-cuda-nvcc==* ]] && command -v ptxas >/dev/null; then
        continue # it is for its ptxas alone, and a CUDA toolkit has that
    elif [[ $package == *==* ]]; then
        pypi[$set]+="${pypi[$set]:+ }$package"
    elif [[ $package == *:arm64 ]]; then
        foreign+=("${package%:*}")
    else
        debian+=("$package")
    fi
done <"$root/scripts/packages.txt"

# ---- Debian packages

command -v dpkg-query >/dev/null || fail "this is not Debian: install the packages of scripts/packages.txt by hand"
present=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${debian[@]}" 2>/dev/null | awk '$2 == "installed" {print $1}') || true
mapfile -t missing < <(comm -23 <(printf '%s\n' "${debian[@]}" | sort -u) <(sort -u <<<"$present"))

# ---- PyPI packages: a virtual environment a set, made anew where it does not hold exactly what the list says

missing_sets=()
for set in "${!pypi[@]}"; do
    [[ $(cat "$testbed/$set/complete" 2>/dev/null) == "${pypi[$set]}" ]] || missing_sets+=("$set")
done

# ---- Debian packages of arm64, unpacked: apt resolves what they need against a system where nothing is installed

arm64=$testbed/arm64
missing_foreign=()
[[ ${#foreign[@]} -eq 0 || $(cat "$arm64/complete" 2>/dev/null) == "${foreign[*]}" ]] || missing_foreign=("${foreign[@]}")

if $list_only; then
    {
        printf '%s\n' "${missing[@]}" "${missing_foreign[@]/%/:arm64}"
        for set in "${missing_sets[@]}"; do
            tr ' ' '\n' <<<"${pypi[$set]}"
        done
    } | sed '/^$/d'
    exit 0
fi

as_root=()
if [[ ${#missing[@]} -gt 0 ]]; then
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null || fail "these packages are missing, and only root (there is no sudo) can install them: ${missing[*]}"
        as_root=(sudo)
    fi
    echo "$program: installing by apt-get: ${missing[*]}" >&2
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update >&2 </dev/null
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 </dev/null
fi

if [[ ${#missing_sets[@]} -gt 0 || ${#missing_foreign[@]} -gt 0 ]]; then
    mkdir -p "$testbed"
    # One at a time, if several checkouts start together.
    exec 9>"$testbed/lock"
    flock 9
fi
for set in "${missing_sets[@]}"; do
    venv=$testbed/$set
    if [[ $(cat "$venv/complete" 2>/dev/null) == "${pypi[$set]}" ]]; then
        continue
    fi
    echo "$program: installing from PyPI into $venv: ${pypi[$set]}" >&2
    read -r -a packages <<<"${pypi[$set]}"
    rm -rf "$venv"
    # Debian's own Python, for python3-venv belongs to that one.
    /usr/bin/python3 -m venv "$venv" >&2
    "$venv/bin/pip" --disable-pip-version-check install --quiet --no-cache-dir --only-binary :all: "${packages[@]}" >&2 </dev/null
    echo "${pypi[$set]}" >"$venv/complete"
done

unpack_arm64() {
    echo "$program: unpacking into $arm64, with what they need: ${foreign[*]/%/:arm64}" >&2
    rm -rf "$arm64"
    mkdir -p "$arm64/apt/state/lists/partial" "$arm64/apt/cache/archives/partial" "$arm64/root"
    touch "$arm64/apt/status"
    local apt=(apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
        -o Dir::State="$arm64/apt/state" -o Dir::State::status="$arm64/apt/status" -o Dir::Cache="$arm64/apt/cache")
    "${apt[@]}" update >&2 </dev/null
    "${apt[@]}" install --download-only --no-install-recommends "${foreign[@]}" >&2 </dev/null
    local deb link
    for deb in "$arm64"/apt/cache/archives/*.deb; do
        dpkg-deb --extract "$deb" "$arm64/root"
    done
    # A link to /lib/… means the folder's own.
    find "$arm64/root" -type l -lname '/*' | while read -r link; do
        ln -sfn --relative "$arm64/root$(readlink "$link")" "$link"
    done
    rm -r "$arm64/apt"
    echo "${foreign[*]}" >"$arm64/complete"
}
if [[ ${#missing_foreign[@]} -gt 0 && $(cat "$arm64/complete" 2>/dev/null) != "${foreign[*]}" ]]; then
    unpack_arm64
fi

# ---- the environment of the tests

if has_set test; then
    icd=$testbed/icd
    mkdir -p "$icd"
    # A folder of exactly the implementations to test. Clover (mesa.icd), which rusticl's package brings along, stays out.
    for name in pocl rusticl; do
        vendor=/etc/OpenCL/vendors/$name.icd
        [[ -e $vendor ]] || fail "$vendor is missing, though its package is installed"
        cmp -s "$vendor" "$icd/$name.icd" || cp "$vendor" "$icd/$name.icd"
    done
    intel=$testbed/test/lib/libintelocl.so
    [[ -e $intel ]] || fail "$intel is missing, though its package is installed"
    [[ $(cat "$icd/intel.icd" 2>/dev/null) == "$intel" ]] || echo "$intel" >"$icd/intel.icd"
    printf 'export OCL_ICD_VENDORS=%q\nexport RUSTICL_ENABLE=llvmpipe\n' "$icd"
fi
if has_set ci; then
    ptxas=$(command -v ptxas || find "$testbed/ci" -path '*/bin/ptxas' -print -quit)
    [[ -x $ptxas ]] || fail "nvidia-cuda-nvcc is installed but holds no bin/ptxas"
    printf 'export CLNORM_PTXAS=%q\n' "$ptxas"
fi
if has_set arm64; then
    printf 'export CLNORM_ARM64_ROOT=%q\n' "$arm64/root"
fi
