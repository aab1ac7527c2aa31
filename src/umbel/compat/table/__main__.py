"""``python -m umbel.compat.table [FILE]``: write the table of compatibility to FILE, or to standard output."""

from umbel.compat.table.page import page
from umbel.config.pages import write_page

write_page("umbel.compat.table", "the table of compatibility with Celery", page)
