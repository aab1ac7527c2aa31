"""``python -m celery``: the command line of Umbel, with ``--as-celery``."""

from umbel.compat.celery.bin.celery import main

if __name__ == "__main__":
    main()
