# The demo is a library of its own so that its tests can link it. BLAS and CLBlast are wanted here and by the suite fold_network only.
find_package(BLAS REQUIRED)
find_path(CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas REQUIRED)

set(demo_embedded)
function(demo_embed file name)
    set(output ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
    add_custom_command(OUTPUT ${output}
        COMMAND ${CMAKE_COMMAND} -DINPUT=${CMAKE_CURRENT_SOURCE_DIR}/demo/${file} -DOUTPUT=${output} -DNAME=${name}
            -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake
        DEPENDS demo/${file} ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake VERBATIM)
    set(demo_embedded ${demo_embedded} ${output} PARENT_SCOPE)
endfunction()
demo_embed(data/digits.csv demo_digits_csv)
demo_embed(histograms.gp demo_histograms_gp)
demo_embed(loss.gp demo_loss_gp)
demo_embed(report.html demo_report_html)

add_library(clnorm_demo STATIC demo/backend.c demo/backend_cpu.c demo/data.c demo/network.c demo/pictures.c demo/progress.c
    demo/random.c demo/report.c demo/tables.c demo/template.c demo/training.c)
target_include_directories(clnorm_demo PUBLIC demo PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${CBLAS_INCLUDE_DIR})
target_link_libraries(clnorm_demo PRIVATE clnorm_flags PkgConfig::POPT PUBLIC clnorm BLAS::BLAS m)
if(CLNORM_OPENCL)
    find_package(CLBlast REQUIRED)
    demo_embed(layers.cl demo_layers_source)
    target_sources(clnorm_demo PRIVATE demo/backend_opencl.c demo/clblast_tuning.c)
    target_compile_definitions(clnorm_demo PRIVATE DEMO_WITH_OPENCL CL_TARGET_OPENCL_VERSION=120)
    target_link_libraries(clnorm_demo PUBLIC clblast OpenCL::OpenCL)
endif()
target_sources(clnorm_demo PRIVATE ${demo_embedded})

list(APPEND sources demo/demo.c)
list(APPEND tool_libraries clnorm_demo)
