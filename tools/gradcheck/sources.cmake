list(APPEND sources gradcheck/device_check.c gradcheck/gradcheck.c gradcheck/legacy_random.c gradcheck/numeric.c)
