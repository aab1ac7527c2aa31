"""What can go wrong with a test server, worded for the person who runs the tests."""


class ServiceError(Exception):
    """A server cannot be had or does not do as asked; the message says what to do."""


class NotInstalled(ServiceError):
    """Programs of the server are missing on this machine."""


class NotReady(Exception):
    """The server runs but does not answer yet; raised by probes, which are asked again."""
