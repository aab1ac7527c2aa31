"""``celery.contrib.testing.mocks``: messages for tests."""

from umbel.testing.celery_mocks import ContextMock, TaskMessage, TaskMessage1, task_message_from_sig

__all__ = ["ContextMock", "TaskMessage", "TaskMessage1", "task_message_from_sig"]
