"""A small shop: each order gets one picture. docs/tutorials/shop.md explains it.

Settings: IMAGES_URL, IMAGES_KEY, NOTIFY_SECRET; PORT is where the shop listens.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flask import Flask, redirect, render_template_string, request, send_file
from werkzeug.wrappers import Response

from orchestrator_client import Client, webhooks

PORT = int(os.environ.get("PORT", "8200"))
FOLDER = Path(os.environ.get("SHOP_FOLDER", "shop-data")).resolve()
PAGE = """
<!doctype html><title>Shop</title>
<form method="post" action="/orders">
  <label>Order <input name="number" required pattern="[0-9]+"></label>
  <label>Picture of <input name="prompt" required></label> <button>Order</button>
</form>
{% for number, prompt, status in orders %}
  <h2>Order {{ number }}: {{ prompt }}</h2>
  {% if status == "succeeded" %}<img src="/orders/{{ number }}/picture" width="300" alt="">
  {% else %}<p>{{ status }}</p>{% endif %}
{% endfor %}
"""

app = Flask(__name__)
images = Client(os.environ.get("IMAGES_URL", "http://127.0.0.1:8080"), os.environ["IMAGES_KEY"])


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """Open the orders, and keep what was changed."""
    with closing(sqlite3.connect(FOLDER / "orders.db", timeout=60)) as connection, connection:
        yield connection


FOLDER.mkdir(exist_ok=True)
with database() as new:
    new.execute(
        "CREATE TABLE IF NOT EXISTS orders"
        " (number TEXT PRIMARY KEY, prompt TEXT, job TEXT, status TEXT)"
    )


@app.get("/")
def show() -> str:
    """Show the orders, newest first."""
    with database() as orders:
        rows = orders.execute("SELECT number, prompt, status FROM orders ORDER BY rowid DESC")
        return render_template_string(PAGE, orders=rows.fetchall())


@app.post("/orders")
def order() -> Response:
    """Take an order. The same number again is the same job: the picture is paid once."""
    number, prompt = request.form["number"], request.form["prompt"]
    job = images.enqueue(
        provider="hiapi",
        model="Nano-Banana-2",
        prompt=prompt,
        notify_url=f"http://127.0.0.1:{PORT}/hooks/images",
        metadata={"order": number},
        idempotency_key=f"order-{number}",
    )
    with database() as orders:
        # The notification may have been faster than this line.
        orders.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET prompt = ?",
            (number, prompt, job.id, job.status, prompt),
        )
    return redirect("/", 303)


@app.post("/hooks/images")
def receive() -> tuple[str, int]:
    """Take a notification. It may come twice, so it sets the status and adds nothing."""
    try:
        notification = webhooks.unwrap(
            request.get_data(), request.headers, os.environ["NOTIFY_SECRET"]
        )
    except webhooks.InvalidNotification:
        return "", 401
    if isinstance(notification, webhooks.JobNotification):
        job = notification.job
        with database() as orders:
            orders.execute(
                "INSERT INTO orders VALUES (?, '', ?, ?) ON CONFLICT DO UPDATE SET status = ?",
                ((job.metadata or {})["order"], job.id, job.status, job.status),
            )
    return "", 204


@app.get("/orders/<int:number>/picture")
def picture(number: int) -> Response:
    """Show the picture of an order. It is downloaded when it is wanted first."""
    file = FOLDER / f"{number}.png"
    if not file.exists():
        with database() as orders:
            [job] = orders.execute(
                "SELECT job FROM orders WHERE number = ?", (str(number),)
            ).fetchone()
        images.download(job, file)
    return send_file(file)


if __name__ == "__main__":
    app.run(port=PORT)
