"""dramatiq with one actor; a word from each worker process when its threads are started."""

from __future__ import annotations

import os

import dramatiq
import requests
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from stamp import stamp

LIBRARY = requests.__version__


class Stamps(dramatiq.Middleware):
    """Tells when a worker process has booted. Nothing tells when its consumers are connected."""

    def after_worker_boot(self, broker, worker):
        """Threads are started."""
        stamp("ready")


dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_BROKER"]))
dramatiq.get_broker().add_middleware(Stamps())


@dramatiq.actor(queue_name="lifecycle-dramatiq")
def work():
    """Nothing."""
