find_path(PTHREADPOOL_INCLUDE_DIR pthreadpool.h)
find_library(PTHREADPOOL_LIBRARY pthreadpool)
if(NOT PTHREADPOOL_INCLUDE_DIR OR NOT PTHREADPOOL_LIBRARY)
    message(FATAL_ERROR "pthreadpool was not found: the command-line program needs it for bench (Debian: libpthreadpool-dev). "
        "Install it, or configure with -DCLNORM_TOOLS=OFF.")
endif()

# bench_embed(file name): a C file in the build folder that defines `const char name[]` with the text of file.
function(bench_embed file name)
    add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${name}.c
        COMMAND ${CMAKE_COMMAND} -DINPUT=${file} -DOUTPUT=${CMAKE_CURRENT_BINARY_DIR}/${name}.c -DNAME=${name}
            -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake
        DEPENDS ${file} ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake VERBATIM)
endfunction()

bench_embed(${PROJECT_SOURCE_DIR}/bench/shapes/quick.txt bench_quick_shapes)
list(APPEND sources bench/bench.c bench/case.c bench/bench_check.c bench/host_limits.c bench/machine.c bench/measure.c bench/report.c
    bench/shapes.c bench/streams.c bench/timing.c ${CMAKE_CURRENT_BINARY_DIR}/bench_quick_shapes.c)
list(APPEND tool_libraries ${PTHREADPOOL_LIBRARY})
include_directories(SYSTEM ${PTHREADPOOL_INCLUDE_DIR})
if(CLNORM_OPENCL)
    bench_embed(${CMAKE_CURRENT_SOURCE_DIR}/bench/limits.cl bench_limits_source)
    list(APPEND sources bench/opencl_limits.c ${CMAKE_CURRENT_BINARY_DIR}/bench_limits_source.c)
    list(APPEND tool_libraries OpenCL::OpenCL)
    list(APPEND tool_definitions CLNORM_BENCH_OPENCL)
endif()
