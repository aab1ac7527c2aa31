"""Tasks about mails, which a route sends to a queue of their own."""

from shop.celery import app
from shop.orders.tasks import Report


@app.task(bind=True, name="shop.mails.send")
def send(self, to, *, subject="hello"):
    return {"to": to, "subject": subject, "queue": self.request.delivery_info["routing_key"]}


@app.task(typing=False)
def loose(*args):
    return len(args)


report = app.register_task(Report())
