"""dramatiq's side of the footprint. `python footprint_dramatiq.py COUNT` publishes; `dramatiq footprint_dramatiq`."""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from footprint_work import work

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_BROKER"]))


@dramatiq.actor(queue_name=os.environ["BENCH_QUEUE"])
def run(name):
    """One message."""
    work(name)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        run.send(f"m-{number}")
