"""Celery, set up as its documentation says for tasks that must not get lost: acks_late and reject_on_worker_lost.

`python celery_app.py COUNT` publishes; `celery -A celery_app worker` works. Runs in the peers' environment.
"""

from __future__ import annotations

import os
import sys

from celery import Celery
from effects import handle

app = Celery("chaos", broker=os.environ["CHAOS_BROKER"])
app.conf.update(
    task_default_queue=os.environ["CHAOS_QUEUE"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@app.task(bind=True, name="work")
def work(self, name):
    """One message. The broker's redelivered flag is all that a task is told."""
    handle(name, bool(self.request.delivery_info.get("redelivered")))


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        work.delay(f"m-{number:06}")
