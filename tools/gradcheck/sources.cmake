list(APPEND sources gradcheck/bounds.c gradcheck/device_check.c gradcheck/device_run.c gradcheck/double_check.c gradcheck/gradcheck.c
    gradcheck/legacy_random.c gradcheck/numeric.c)
