# Linux on AArch64, built on another machine; tests run in qemu-user. CLNORM_ARM64_ROOT, from the environment, is a folder with
# arm64's headers and libraries; scripts/install-deps.sh arm64 makes one and prints where.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

# CMake reads this file again, where the environment may be gone, and in the projects it tries compilers with.
set(CLNORM_ARM64_ROOT "$ENV{CLNORM_ARM64_ROOT}" CACHE PATH "Headers and libraries of arm64")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CLNORM_ARM64_ROOT)
if(NOT IS_DIRECTORY "${CLNORM_ARM64_ROOT}/usr")
    message(FATAL_ERROR "CLNORM_ARM64_ROOT is '${CLNORM_ARM64_ROOT}', but must name a folder with the libraries of arm64: "
        "run eval \"$(scripts/install-deps.sh arm64)\"")
endif()

set(arm64_triple aarch64-linux-gnu)
if(NOT CMAKE_C_COMPILER)
    set(CMAKE_C_COMPILER ${arm64_triple}-gcc)
endif()
set(CMAKE_C_COMPILER_TARGET ${arm64_triple})
set(CMAKE_SYSROOT "${CLNORM_ARM64_ROOT}")
set(CMAKE_LIBRARY_ARCHITECTURE ${arm64_triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Where Debian's packages were unpacked but not set up, BLAS has no link in the usual place.
list(APPEND CMAKE_LIBRARY_PATH /usr/lib/${arm64_triple}/openblas-pthread)
list(APPEND CMAKE_INCLUDE_PATH /usr/include/${arm64_triple}/openblas-pthread)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CLNORM_ARM64_ROOT}")
set(ENV{PKG_CONFIG_LIBDIR}
    "${CLNORM_ARM64_ROOT}/usr/lib/${arm64_triple}/pkgconfig:${CLNORM_ARM64_ROOT}/usr/share/pkgconfig")

# A processor with nothing that is newer than AArch64 itself.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu cortex-a53 -L "${CLNORM_ARM64_ROOT}")
