set(parity_page_source ${CMAKE_CURRENT_BINARY_DIR}/parity_page.c)
add_custom_command(OUTPUT ${parity_page_source}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${CMAKE_CURRENT_SOURCE_DIR}/parity/page.html -DOUTPUT=${parity_page_source}
        -DNAME=parity_page -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake
    DEPENDS parity/page.html ${PROJECT_SOURCE_DIR}/cmake/EmbedFile.cmake VERBATIM)
list(APPEND sources parity/compare.c parity/devices.c parity/html.c parity/json.c parity/parity.c parity/select.c
    parity/table.c
    ${parity_page_source})
