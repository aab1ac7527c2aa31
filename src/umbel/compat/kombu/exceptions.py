"""``kombu.exceptions``: what goes wrong between a project and its broker."""

from umbel.errors import ContentDisallowed, DecodeError, EncodeError, OperationalError, UmbelError

KombuError = UmbelError

__all__ = ["ContentDisallowed", "DecodeError", "EncodeError", "KombuError", "OperationalError"]
