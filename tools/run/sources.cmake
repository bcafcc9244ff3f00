list(APPEND sources run/devices.c run/run.c)
