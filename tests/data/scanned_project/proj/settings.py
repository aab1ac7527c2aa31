CELERY_BROKER_URL = "sqs://"
CELERY_WORKER_STATE_DB = "/var/state"
CELERY_TASK_SERIALISER = "json"
CELERY_ONCE = {}
CELERYD_NICE = 3
DEBUG = True
worker_consumer = "not for celery here"
