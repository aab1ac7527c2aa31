"""``celery.fixups``: what makes an application fit for a framework."""
