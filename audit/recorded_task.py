from __future__ import annotations

from typing import Any

import orjson
from celery import Task

from audit.services import dead_letters
from audit.trace import new_trace_id, tracing


class RecordedTask(Task):
    """A task whose failure is a dead letter. A scheduled one without arguments comes again by itself: its failures of
    one sort within some minutes are one letter. What a task records and logs has its id as trace."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with tracing(self.request.id or new_trace_id()):
            return super().__call__(*args, **kwargs)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        call = orjson.dumps({"name": self.name, "args": list(args), "kwargs": dict(kwargs)}, default=str).decode()
        dead_letters().put(
            "task",
            error=f"{type(exc).__name__}: {exc}",
            payload=call,
            context={"task": self.name},
            trace_id=task_id,
            same="" if args or kwargs else f"{self.name}:{type(exc).__name__}",
        )
