"""Processes that run tasks and do nothing else, and the channels by which the supervisor talks to them."""
