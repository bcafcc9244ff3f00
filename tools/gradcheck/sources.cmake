list(APPEND sources gradcheck/gradcheck.c)
