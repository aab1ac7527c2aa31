"""Errors of the shop."""


class OutOfStock(Exception):
    """There is none left."""
