"""What happens to workers."""


class WorkerDied(Exception):  # noqa: N818  (an event: the task may be run again)
    """The process of a task ended in the middle of it, of itself or from outside."""
