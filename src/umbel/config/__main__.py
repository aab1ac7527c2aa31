"""``python -m umbel.config [FILE]``: write the reference of all settings to FILE, or to standard output."""

from umbel.config.pages import write_page
from umbel.config.reference import page

write_page("umbel.config", "the reference of all settings", page)
