"""Which task and request are current, and results by the signature of their task."""

from celery import Celery, current_task
from celery.app import pop_current_task, push_current_task
from celery.bootsteps import Blueprint, Step

app = Celery("x", broker="memory://", backend="redis://", set_as_current=True)


@app.task(name="proj.add")
def add(x):
    return x


@app.task(name="proj.other")
def other():
    return len(add.request_stack), len(other.request_stack)


push_current_task(add)
push_current_task(other)
print(current_task.name)
pop_current_task()
print(current_task.name)
pop_current_task()
print(bool(current_task))

print(add.request_stack.top, add.request_stack.stack, len(add.request_stack))
add.push_request(id="5")
add.push_request(id="6")
print(add.request_stack.top.id, [each.id for each in add.request_stack.stack], len(add.request_stack))
print(add.request.id, other(), len(other.request_stack))
add.request_stack.pop()
print(add.request.id, len(add.request_stack))
add.pop_request()
print(len(add.request_stack))

result = add.s(1).AsyncResult("some-id")
print(type(result).__name__, result.id, app.signature("proj.unknown").AsyncResult("other-id").id)


class Made:
    def __init__(self, *args, **kwargs):
        self.args = args, kwargs


class Own(Step):
    name = "proj.steps:Own"


print(Own(None).instantiate(Made, 1, two=2).args, Own(None).instantiate("collections.OrderedDict", a=1))
blueprint = Blueprint()
print(dict(blueprint.state_to_name), blueprint.started)
