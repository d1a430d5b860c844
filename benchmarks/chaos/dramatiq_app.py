"""dramatiq with RabbitMQ; it always acks late.

`python dramatiq_app.py COUNT` publishes; `dramatiq dramatiq_app` works. Runs in the peers' environment.
"""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from effects import handle

dramatiq.set_broker(RabbitmqBroker(url=os.environ["CHAOS_BROKER"], confirm_delivery=True))


@dramatiq.actor(queue_name=os.environ["CHAOS_QUEUE"])
def work(name):
    """One message. Nothing tells an actor that it may be a repetition."""
    handle(name, False)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        work.send(f"m-{number:06}")
