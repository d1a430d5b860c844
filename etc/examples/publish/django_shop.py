"""A Django application that publishes each order: `gunicorn --preload --workers 2 --threads 4 django_shop:application`.

BROKER_URL names the broker, QUEUE the queue of a pool. An answer of 202 means that the broker has the order.
"""

from __future__ import annotations

import json
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from supervisor.client import Client, ClientError

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=os.environ.get("SECRET_KEY", "example"))

client = Client(os.environ.get("BROKER_URL", "amqp://localhost"), name="django shop")  # connects at its first message
QUEUE = os.environ.get("QUEUE", "orders")


def order(request: HttpRequest, number: int) -> JsonResponse:
    """Publish the order `number`. Its id is the order's own, so a repeated request runs once."""
    try:
        client.publish(QUEUE, json.dumps({"number": number}), message_id=f"order-{number}", timeout_s=5)
    except ClientError as error:
        return JsonResponse({"error": str(error), "maybe_published": error.maybe_published}, status=503)
    return JsonResponse({"number": number}, status=202)


urlpatterns = [path("orders/<int:number>", order)]
application = get_wsgi_application()
