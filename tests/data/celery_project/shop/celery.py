"""The application: ``celery -A shop worker``."""

from celery import Celery

from shop.steps import Census, Greeting

app = Celery("shop", config_source="shop.celeryconfig")
app.autodiscover_tasks(["shop.orders", "shop.mails"])
app.steps["worker"].add(Greeting)
app.steps["consumer"].add(Census)

if __name__ == "__main__":
    app.start()
