"""Celery's prefork pool with RabbitMQ, set up as its documentation says for tasks that must not get lost. Runs in the
peers' environment.

`python celery_app.py SIZE` publishes one task with a body of that size; `celery -A celery_app worker` works.
"""

from __future__ import annotations

import os
import sys

from celery import Celery
from work import WORK

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH"]),
    broker_connection_retry_on_startup=True,
)
run = WORK[os.environ["BENCH_WORK"]]
ENVELOPE = len('[[""], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]')


@app.task(name="handle")
def handle(text):
    run()


if __name__ == "__main__":
    text = "." * (int(sys.argv[1]) - ENVELOPE)
    handle.apply_async((text,), argsrepr="a text")  # which its headers would repeat
