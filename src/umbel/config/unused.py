"""Why settings of Celery have no effect in Umbel, where several share the reason."""

NO_DRIVER = "Umbel has no driver for this system"
NO_SCHEDULER = "there is no scheduler of periodic tasks yet"
NO_EVENTS = "workers and clients publish no events yet"
NO_REPLIES = "remote control has no replies yet, so it needs no queues"
NO_SIGNATURES = "messages cannot be signed yet"
