"""``kombu.utils.uuid``: ids."""

from umbel.message import new_id as uuid

__all__ = ["uuid"]
