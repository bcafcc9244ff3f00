# What `cmake --install` puts into a prefix: both libraries, the public headers, clnorm.pc and the CMake package. The tree
# may be moved afterwards: every path in it is relative to the file that holds it.

set(clnorm_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/clnorm)

# The program finds the library beside it, wherever the prefix is. Set here, before any program is defined.
file(RELATIVE_PATH bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set(CMAKE_INSTALL_RPATH "$ORIGIN/${bin_to_lib}")

# Two export sets, since only the static library needs its users to find what it links.
install(TARGETS clnorm EXPORT clnorm-shared)
install(TARGETS clnorm_static EXPORT clnorm-static)
install(EXPORT clnorm-shared NAMESPACE clnorm:: DESTINATION ${clnorm_package_dir})
install(EXPORT clnorm-static NAMESPACE clnorm:: DESTINATION ${clnorm_package_dir})

set(clnorm_public_headers include/clnorm/clnorm.h)
if(CLNORM_OPENCL)
    list(APPEND clnorm_public_headers include/clnorm/opencl.h)
endif()
install(FILES ${clnorm_public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/clnorm)

configure_package_config_file(cmake/clnorm-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/clnorm-config.cmake
    INSTALL_DESTINATION ${clnorm_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/clnorm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/clnorm-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/clnorm-config-version.cmake
    DESTINATION ${clnorm_package_dir})

# clnorm.pc. Private entries are what a static link needs. The loader has a .pc file of its own on most systems.
file(RELATIVE_PATH pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
set(pc_libdir ${CMAKE_INSTALL_LIBDIR})
set(pc_includedir ${CMAKE_INSTALL_INCLUDEDIR})
foreach(dir IN ITEMS pc_libdir pc_includedir)
    if(NOT IS_ABSOLUTE ${${dir}})
        set(${dir} "\${prefix}/${${dir}}")
    endif()
endforeach()
set(pc_requires_private "")
set(pc_libs_private "-lpthreadpool -lcpuinfo -pthread -lm")
if(CLNORM_OPENCL)
    pkg_check_modules(CLNORM_LOADER QUIET OpenCL)
    if(CLNORM_LOADER_FOUND)
        set(pc_requires_private OpenCL)
    else()
        string(APPEND pc_libs_private " ${OpenCL_LIBRARIES}")
    endif()
endif()
configure_file(cmake/clnorm.pc.in ${CMAKE_CURRENT_BINARY_DIR}/clnorm.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/clnorm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
