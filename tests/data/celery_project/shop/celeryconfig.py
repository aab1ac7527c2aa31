"""Settings, some of them under their old names, and two of other packages."""

import os

from kombu import Exchange, Queue

broker_url = os.environ["SHOP_BROKER"]
result_backend = os.environ["SHOP_RESULTS"]
task_default_queue = "orders"
task_queues = (
    Queue("orders", Exchange("orders"), routing_key="orders"),
    Queue("mails", Exchange("mails", type="direct"), routing_key="mails"),
)
task_routes = ([("shop.mails.*", {"queue": "mails"})], {"shop.orders.tasks.audit": "mails"})
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
result_extended = True
timezone = "Europe/Berlin"
enable_utc = True
task_track_started = True
worker_prefetch_multiplier = 1
worker_hijack_root_logger = False
broker_connection_retry_on_startup = True
task_annotations = {"shop.orders.tasks.annotated": {"priority": 3}}

ONCE = {"backend": "celery_once.backends.Redis", "settings": {"url": broker_url}}
redbeat_redis_url = broker_url
