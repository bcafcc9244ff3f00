list(APPEND sources run/devices.c run/npy.c run/npy_header.c run/output.c run/run.c run/run_options.c)
