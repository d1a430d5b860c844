"""dramatiq with RabbitMQ, as its documentation sets it up; it always acks late. Runs in the peers' environment.

`python dramatiq_app.py SIZE` publishes one message with a body of that size; `dramatiq dramatiq_app` works.
"""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from work import WORK

broker = RabbitmqBroker(url=os.environ["BENCH_BROKER"], confirm_delivery=True)
dramatiq.set_broker(broker)
run = WORK[os.environ["BENCH_WORK"]]


@dramatiq.actor(queue_name=os.environ["BENCH_QUEUE"])
def handle(text):
    run()


if __name__ == "__main__":
    envelope = len(handle.message("").encode())
    handle.send("." * (int(sys.argv[1]) - envelope))
