"""Lines in a file, from every process."""

import os


def note(*words):
    fd = os.open(os.environ["SHOP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, (" ".join(str(word) for word in words) + "\n").encode())
    finally:
        os.close(fd)


def lines():
    if not os.path.exists(os.environ["SHOP_LEDGER"]):
        return []
    with open(os.environ["SHOP_LEDGER"]) as file:
        return file.read().splitlines()
