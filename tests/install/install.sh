#!/bin/bash
# install.sh BUILD VERSION OPENCL(ON|OFF) CC CXX FLAGS: installs BUILD into a prefix, moves that, and builds and runs
# consumers against it by pkg-config and by CMake, shared and static; and looks at what the libraries export and need.
set -euo pipefail
build=$1 version=$2 opencl=$3 cc=$4 cxx=$5
read -r -a flags <<<"$6"
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "install.sh: $*" >&2
    exit 1
}

cmake --install "$build" --prefix "$scratch/first" >"$scratch/install.log"
prefix="$scratch/moved tree"
mv "$scratch/first" "$prefix"

# ---- what is there
shared=$(find "$prefix" -name "libclnorm.so.$version")
static=$(find "$prefix" -name libclnorm.a)
[[ -n $shared ]] || fail "libclnorm.so.$version was not installed"
[[ -n $static ]] || fail "libclnorm.a was not installed"
lib=$(dirname "$shared")
if [[ $opencl == ON ]]; then
    [[ -e $prefix/include/clnorm/opencl.h ]] || fail "opencl.h was not installed"
else
    [[ ! -e $prefix/include/clnorm/opencl.h ]] || fail "opencl.h was installed by a build without OpenCL"
fi
if grep -rIl "$scratch/first" "$prefix"; then
    fail "the files above hold the path of the first prefix"
fi

# ---- what the libraries export and need
exported=$(nm -D --defined-only "$shared" | awk '{print $NF}')
grep -qx clnorm_forward <<<"$exported" || fail "clnorm_forward is not exported"
strangers=$(grep -v '^clnorm_' <<<"$exported" || true)
[[ -z $strangers ]] || fail "the shared library exports more than clnorm_*: $strangers"
# A static library can't hide a name from its users, so each has the project's prefix (AddressSanitizer puts its own before).
strangers=$(nm --defined-only --extern-only "$static" | awk 'NF == 3 {print $3}' | grep -vE '^(__odr_asan\.)?(clnorm|cln)_' || true)
[[ -z $strangers ]] || fail "the static library defines names without the prefix clnorm_ or cln_: $strangers"

dynamic=$(readelf -d "$shared")
grep -q "SONAME.*\[libclnorm.so.${version%%.*}\]" <<<"$dynamic" || fail "SONAME is not libclnorm.so.${version%%.*}: $dynamic"
if [[ $opencl == ON ]]; then
    grep -q 'NEEDED.*\[libOpenCL' <<<"$dynamic" || fail "a build with OpenCL does not link its loader"
else
    ! grep -q 'NEEDED.*OpenCL' <<<"$dynamic" || fail "a build without OpenCL links its loader"
    ! nm "$static" | grep -E ' U cl[A-Z]' || fail "a build without OpenCL calls OpenCL"
fi

if [[ $opencl == OFF && -e $build/build.ninja ]]; then
    # Such a build must work where these headers are not; here they may be, so see that no file read one.
    ninja -C "$build" -t deps >"$scratch/deps"
    grep -q 'clnorm/clnorm\.h' "$scratch/deps" || fail "the build's record of headers is empty"
    ! grep '/CL/' "$scratch/deps" || fail "a build without OpenCL reads its headers"
fi

# ---- pkg-config
export PKG_CONFIG_PATH=$lib/pkgconfig
[[ $(pkg-config --modversion clnorm) == "$version" ]] || fail "pkg-config says another version than $version"

check_run() { # PROGRAM shared|static
    local said
    said=$(LD_LIBRARY_PATH=$lib "$1") || fail "$1 failed"
    [[ $said == "$version" ]] || fail "$1 says version '$said' instead of $version"
    if readelf -d "$1" | grep -q 'NEEDED.*\[libclnorm'; then
        [[ $2 == shared ]] || fail "$1 was to be linked with the static library"
    else
        [[ $2 == static ]] || fail "$1 was to be linked with the shared library"
    fi
}

headers=(-UCONSUMER_OPENCL)
if [[ $opencl == ON ]]; then
    headers+=(-DCONSUMER_OPENCL)
fi
for header in "${headers[@]}"; do
    for language in c cpp; do
        compiler=("$cc" -std=c11)
        [[ $language == c ]] || compiler=("$cxx" -std=c++17)
        compiler+=("${flags[@]}" -Wall -Wextra -Wpedantic -Werror "$header" "$here/consumer/consumer.$language")
        for kind in shared static; do
            option=()
            [[ $kind == shared ]] || option=(--static)
            # pkg-config escapes blanks for a shell.
            eval "words=($(pkg-config "${option[@]}" --cflags --libs clnorm))"
            if [[ $kind == static ]]; then
                words=("${words[@]/#-lclnorm/-l:libclnorm.a}")
            fi
            "${compiler[@]}" "${words[@]}" -o "$scratch/$language-$kind"
            check_run "$scratch/$language-$kind" "$kind"
        done
    done
done

# ---- CMake
cmake -S "$here/consumer" -B "$scratch/consumer" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_C_FLAGS="$6" -DCMAKE_CXX_FLAGS="$6" >"$scratch/cmake.log" || {
    cat "$scratch/cmake.log"
    fail "CMake does not find the package"
}
cmake --build "$scratch/consumer" >"$scratch/cmake.log" || {
    cat "$scratch/cmake.log"
    fail "the CMake consumers do not build"
}
for language in c cpp; do
    check_run "$scratch/consumer/${language}_clnorm" shared
    check_run "$scratch/consumer/${language}_clnorm_static" static
done

# The installed program finds the library beside it.
if [[ -x $prefix/bin/clnorm ]]; then
    "$prefix/bin/clnorm" --help >/dev/null || fail "the installed program does not run"
fi
echo "installed tree of $version (OpenCL $opencl) works by pkg-config and CMake, shared and static"
