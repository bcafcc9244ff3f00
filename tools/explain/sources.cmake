list(APPEND sources explain/explain.c)
