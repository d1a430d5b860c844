"""Celery with one task; a word when the worker consumes. Its pool of processes is up by then."""

from __future__ import annotations

import os

import requests
from celery import Celery
from celery.signals import worker_process_init, worker_ready
from stamp import stamp

LIBRARY = requests.__version__

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_default_queue="lifecycle-celery", task_acks_late=True, task_ignore_result=True, worker_hijack_root_logger=False
)


@app.task(name="work")
def work():
    """Nothing."""


@worker_process_init.connect
def child_is_up(**_facts):
    """In each process of the pool."""
    stamp("child")


@worker_ready.connect
def consuming(**_facts):
    """In the main process: connected, and the queue's consumer is registered."""
    stamp("ready")
