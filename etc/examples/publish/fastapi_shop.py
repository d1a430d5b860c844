"""A FastAPI application that publishes each order: `uvicorn fastapi_shop:app`.

BROKER_URL names the broker, QUEUE the queue of a pool. An answer of 202 means that the broker has the order.
"""

from __future__ import annotations

import json
import os

from fastapi import FastAPI, HTTPException

from supervisor.client import Client, ClientError

app = FastAPI()
client = Client(os.environ.get("BROKER_URL", "amqp://localhost"), name="fastapi shop")  # connects at its first message
QUEUE = os.environ.get("QUEUE", "orders")


@app.get("/orders/{number}", status_code=202)
async def order(number: int) -> dict[str, int]:
    """Publish the order `number`. Its id is the order's own, so a repeated request runs once."""
    try:
        await client.publish_async(QUEUE, json.dumps({"number": number}), message_id=f"order-{number}", timeout_s=5)
    except ClientError as error:
        detail = {"error": str(error), "maybe_published": error.maybe_published}
        raise HTTPException(503, detail) from error
    return {"number": number}
