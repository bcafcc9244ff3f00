list(APPEND sources bench/bench.c)
