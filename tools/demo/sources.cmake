list(APPEND sources demo/demo.c)
