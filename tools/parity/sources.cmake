list(APPEND sources parity/parity.c)
