"""Waiting in tests: `celery.contrib.testing.manager`, `celery.contrib.testing.app`."""

from celery import Celery, states
from celery.app.log import Logging
from celery.contrib.testing.app import TestApp, UnitLogging
from celery.contrib.testing.manager import Manager, ManagerMixin, Sentinel

app = Celery("x", broker="memory://", backend="cache+memory://", set_as_current=False)
manager = Manager(app)
print(manager.app is app, isinstance(manager, ManagerMixin), issubclass(Sentinel, Exception))
FAST = {"interval_start": 0.01, "interval_step": 0.0, "interval_max": 0.01}


def failing(times, error=ValueError):
    left = [times]

    def call(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise error(f"{left[0]} left")
        return args, kwargs

    return call


print(manager.wait_for(failing(3), (ValueError,), args=(1,), kwargs={"a": 2}, **FAST))
told = []
print(
    manager.wait_for(
        failing(2), ValueError, errback=lambda error, pauses, times: told.append((str(error), times)), **FAST
    )
)
print(told)
for call in (
    lambda: manager.wait_for(failing(9), ValueError, max_retries=2, **FAST),
    lambda: manager.wait_for(failing(9, KeyError), ValueError, **FAST),
    lambda: manager.true_or_raise(lambda value: value, 0),
    lambda: manager.assert_task_worker_state(lambda ids, timeout: False, ["a"], max_retries=1, **FAST),
):
    try:
        print("ended with", call())
    except Exception as error:
        print(type(error).__name__)
print(manager.ensure_not_for_a_while(failing(9), ValueError, max_retries=3, **FAST))
print(manager.true_or_raise(lambda value: value, 5))
print(manager.retry_over_time(failing(1), ValueError, args=(7,), max_retries=3, **FAST))
print(manager.assert_task_state_from_result(lambda results, timeout: results, ["r"], **FAST))


class Result:
    def __init__(self, state):
        self.state = state


ALL = [states.PENDING, states.RECEIVED, states.STARTED, states.SUCCESS, states.FAILURE, states.RETRY, states.REVOKED]
for state in ALL:
    print(state, manager.is_result_task_in_progress([Result(state), Result("STARTED")]))
manager.assert_result_tasks_in_progress_or_completed([Result("STARTED"), Result("SUCCESS")], **FAST)

print(issubclass(UnitLogging, Logging), UnitLogging(TestApp()).already_setup)
