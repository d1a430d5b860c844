"""The bare loop: pika's SelectConnection in one process, the work done in its callback, each message acked by itself.

It is what one would write without any supervisor: a handler that dies takes the connection with it, one that blocks
starves the heartbeat, and nothing remembers what was done. Runs in the peers' environment.
"""

from __future__ import annotations

import os

import pika
from work import WORK

QUEUE, PREFETCH = os.environ["BENCH_QUEUE"], int(os.environ["BENCH_PREFETCH"])
run = WORK[os.environ["BENCH_WORK"]]


def on_message(channel, method, properties, body):
    run()
    channel.basic_ack(method.delivery_tag)


def on_channel(channel):
    channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: channel.basic_consume(QUEUE, on_message))


if __name__ == "__main__":
    parameters = pika.URLParameters(os.environ["BENCH_BROKER"])
    loop = pika.SelectConnection(
        parameters, on_open_callback=lambda opened: opened.channel(on_open_callback=on_channel)
    )
    loop.ioloop.start()
