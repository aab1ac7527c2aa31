"""What a Celery project uses that Umbel does not have, or does in another way: found in its source, without running it.

``project`` reads the files and knows what they give each other, ``references`` follows names to what they stand for,
``checks`` looks at imports, attributes and calls, ``settings`` at configuration, and ``knowledge`` asks Umbel itself:
a name is missing when it cannot be had from the mirror of Celery's modules. ``python -m umbel.compat`` is the command.
"""

from umbel.compat.scan.findings import Finding, Level
from umbel.compat.scan.project import Report, scan

__all__ = ["Finding", "Level", "Report", "scan"]
