"""``billiard`` where the real one is not installed: its exceptions."""
