"""Programs whose tasks talk: threads, asyncio, multiprocessing and subprocesses, recorded as one ordered trace."""

from cwm_jax.tracing.tasks.language import parse_tasks, render_tasks, task_segments
from cwm_jax.tracing.tasks.recorder import record_tasks
from cwm_jax.tracing.tasks.run import Message, Step, Task, TaskRun, run_as_json

__all__ = [
    "Message",
    "Step",
    "Task",
    "TaskRun",
    "parse_tasks",
    "record_tasks",
    "render_tasks",
    "run_as_json",
    "task_segments",
]
