"""The worker: a supervisor process that claims work, hands it to executors and settles what they report."""
