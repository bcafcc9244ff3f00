list(APPEND sources tune/tune.c)
if(CLNORM_OPENCL)
    list(APPEND sources tune/contest.c tune/measure.c tune/row.c tune/search.c)
endif()
