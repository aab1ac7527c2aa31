"""``python -m umbel.compat.table [FILE]``: write the table of compatibility to FILE, or to standard output."""

import sys
from pathlib import Path

from umbel.compat.table.page import page

if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
else:
    sys.stdout.write(page())
