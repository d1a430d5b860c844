"""Celery's side of the footprint. `python footprint_celery.py COUNT` publishes; `celery -A footprint_celery worker`."""

from __future__ import annotations

import os
import sys

from celery import Celery
from footprint_work import work

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_default_queue="footprint-celery", task_acks_late=True, task_ignore_result=True)


@app.task(name="run")
def run(name):
    """One message."""
    work(name)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        run.delay(f"m-{number}")
