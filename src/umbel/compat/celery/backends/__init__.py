"""``celery.backends``: the classes of result stores that Umbel has, one module each.

They are what ``app.backend`` is an instance of. A store of one's own derives from ``umbel.backends.base.Backend``.
"""
