"""``python -m umbel.config [FILE]``: write the reference of all settings to FILE, or to standard output."""

import sys
from pathlib import Path

from umbel.config.reference import page

if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
else:
    sys.stdout.write(page())
