"""python count.py FILE…: count words on the workers of this project."""

import os
import sys

from project import app, count, total

files = [os.path.abspath(name) for name in sys.argv[1:]]
counting = app.send_many([count.s(name) for name in files])
counts = [result.get(timeout=60) for result in counting]
for word, times in total.delay(counts).get(timeout=60):
    print(f"{times:6} {word}")
