"""One module per task queue measured: its tasks, its settings, and a driver for the client side."""
