"""The how-tos that need no broker, followed in an empty folder: their files are the pages' own code blocks."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.how_to import reader_in, write_files
from tests.support.postgresql import PostgreSQL
from tests.support.shells import Shell
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

_SETTINGS = """
INSTALLED_APPS = ["shop", "supervisor.inbox.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "FOLDER/shop.db"}}
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""

_ACCOUNTS = """
CREATE TABLE accounts (name TEXT PRIMARY KEY, amount INTEGER NOT NULL);
INSERT INTO accounts VALUES ('ann', 100);
"""

_ORDER = '{"amount": 5, "from": "ann", "dies": true}'

_DIES = """

def dying(message, charge=charge):
    charge(message)
    if message.attempt == 1:
        os.kill(os.getpid(), 9)


charge = dying
"""
"""For the end of the page's handlers: the first attempt is killed after its commit."""

_SQLITE = "python -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.stdin.read())'"

_AMOUNTS = "SELECT amount FROM invoices ORDER BY amount"


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[list[Shell]]:
    """Readers whose daemons end with the test."""
    made: list[Shell] = []
    try:
        yield made
    finally:
        for reader in made:
            reader.types("preforkd stop --now")


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    """What a query finds; nothing before its table is there."""
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError):
        return connection.execute(query).fetchall()
    return []


def test_django_models_are_changed_once_for_each_message(tmp_path: Path, readers: list[Shell]) -> None:
    assert write_files("django", tmp_path) == ["preforkd.toml", "shop/models.py", "handlers.py", "views.py"]
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/settings.py").write_text(_SETTINGS.replace("FOLDER", str(tmp_path)))
    reader = reader_in(tmp_path, DJANGO_SETTINGS_MODULE="shop.settings")
    readers.append(reader)
    reader.ok(
        'python -c \'import sys; sys.path.insert(0, "."); import django; django.setup();'
        ' from django.core.management import call_command; call_command("migrate", run_syncdb=True, verbosity=0)'
        '; from shop.models import Order; Order.objects.create(number="7")\''
    )

    reader.ok('preforkd start; echo \'{"number": "7"}\' | preforkd publish orders --id-prefix order-')
    reader.ok("echo '{}' | preforkd publish orders --id-prefix odd-")

    orders = "SELECT number, confirmed FROM shop_order"
    eventually(lambda: rows(tmp_path / "shop.db", orders) == [("7", 1)], "the order is confirmed")
    eventually(lambda: "no 'number' in the message" in reader.ok("preforkd dead list orders"), "the odd one is dead")
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM preforkd_inbox WHERE round > 0") == [(1,)]
    reader.ok("preforkd stop")


def test_a_middleware_sets_the_language_of_a_run(tmp_path: Path, readers: list[Shell]) -> None:
    write_files("middleware", tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/models.py").touch()
    (tmp_path / "shop/settings.py").write_text(_SETTINGS.replace("FOLDER", str(tmp_path)))
    reader = reader_in(tmp_path, DJANGO_SETTINGS_MODULE="shop.settings")
    readers.append(reader)

    reader.ok("preforkd start; echo '{}' | preforkd publish letters --header language=de --id-prefix de-")
    reader.ok("echo '{}' | preforkd publish letters --id-prefix en-")

    for text in ("Ja  logger=stdout  message_id=de-0", "Yes  logger=stdout  message_id=en-0"):
        eventually(lambda text=text: text in reader.ok("preforkd logs letters"), f"the log has {text}")
    reader.ok("preforkd stop")


def test_a_view_publishes_after_its_commit(tmp_path: Path) -> None:
    write_files("django", tmp_path)
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/settings.py").write_text(_SETTINGS.replace("FOLDER", str(tmp_path)))
    reader = reader_in(tmp_path, DJANGO_SETTINGS_MODULE="shop.settings")

    said = reader.ok("""python - <<'END'
import sys
sys.path.insert(0, ".")
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django.db import transaction
from django.test import RequestFactory
import views
views.client.send_later = lambda *sent, **given: print(sent, given, transaction.get_connection().in_atomic_block)
print(views.order(RequestFactory().post("/", {"number": "8"})).status_code)
END""")

    assert said == "('orders', {'number': '8'}) {'message_id': 'order-8'} False\n202\n"


def test_sqlalchemy_writes_an_invoice_once_whatever_the_attempt(tmp_path: Path, readers: list[Shell]) -> None:
    write_files("sqlalchemy", tmp_path)
    reader = reader_in(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/shop.db")
    readers.append(reader)
    reader.ok(f"preforkd inbox sql --dialect sqlite | {_SQLITE} shop.db; python handlers.py")

    reader.ok("preforkd start; echo '{\"amount\": 7}' | preforkd publish invoices --id-prefix i-")
    eventually(lambda: rows(tmp_path / "shop.db", _AMOUNTS) == [(7,)], "it is written")
    reader.ok("preforkd stop")
    reader.ok("""python - <<'END'
import sys
sys.path.insert(0, ".")
import handlers
from supervisor import Message
handlers.connect()
for attempt in (1, 2):
    handlers.invoice(Message(b'{"amount": 8}', id="i-1", attempt=attempt))
END""")

    assert rows(tmp_path / "shop.db", _AMOUNTS) == [(7,), (8,)]


def test_the_inbox_page_charges_an_order_once_although_its_worker_dies_after_the_commit(
    tmp_path: Path, readers: list[Shell], postgresql: PostgreSQL
) -> None:
    write_files("inbox", tmp_path)
    database = postgresql.new_database()
    reader = reader_in(tmp_path, DATABASE_URL=postgresql.dsn(database))
    readers.append(reader)
    postgresql.ask(database, reader.ok("preforkd inbox sql --dialect postgresql") + _ACCOUNTS)
    with (tmp_path / "handlers.py").open("a") as handlers:
        handlers.write(_DIES)

    reader.ok(f"preforkd start; echo '{_ORDER}' | preforkd publish orders --id-prefix order-")

    charged_once(reader, lambda: postgresql.ask(database, "SELECT amount FROM accounts WHERE name = 'ann'"))
    postgresql.ask(database, "UPDATE preforkd_inbox SET at = '2001-01-01'")
    reader.ok("python clean.py")
    assert postgresql.ask(database, "SELECT round FROM preforkd_inbox") == [(0,)]


def test_the_example_of_the_inbox_charges_an_order_once_although_its_worker_dies_after_the_commit(
    tmp_path: Path, readers: list[Shell]
) -> None:
    shutil.copytree(ROOT / "etc/examples/inbox", tmp_path, dirs_exist_ok=True)
    reader = reader_in(tmp_path, DATABASE=f"{tmp_path}/shop.db")
    readers.append(reader)

    reader.ok(f"python make_tables.py; preforkd start; echo '{_ORDER}' | preforkd publish orders --id-prefix order-")

    charged_once(reader, lambda: rows(tmp_path / "shop.db", "SELECT amount FROM accounts WHERE name = 'ann'"))


def charged_once(reader: Shell, account: Callable[[], list[tuple[object, ...]]]) -> None:
    """The worker of the order has died once, both attempts are over, the account has paid once, one message is out."""
    eventually(lambda: "was charged" in reader.ok("cat state/preforkd.log"), "what it published has arrived")
    reader.ok("preforkd stop")
    exits = [json.loads(line) for line in reader.ok("preforkd exits --json -n 0").splitlines()]
    assert [exit["cause"] for exit in exits if exit["cause"] != "clean_stop"] == ["killed"]
    assert account() == [(95,)]
    assert reader.ok("cat state/preforkd.log").count("was charged") == 1


class _Sentry:
    """What Sentry's client posts to: an HTTP server that keeps the envelopes."""

    def __init__(self) -> None:
        self.envelopes: list[str] = []
        kept = self.envelopes

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append((gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).decode())
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_address[1]}/1"

    def event(self, text: str) -> str:
        """The first envelope with this text, without blanks after its separators."""
        said = "no envelope"

        def found() -> bool:
            nonlocal said
            envelopes = [one.replace(": ", ":").replace(", ", ",") for one in list(self.envelopes)]
            said = next((one for one in envelopes if text.replace(": ", ":") in one), "")
            return bool(said)

        eventually(found, f"Sentry has an envelope with {text}")
        return said


@pytest.fixture
def sentry() -> Iterator[_Sentry]:
    made = _Sentry()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


_KILLED = """

import os
import signal

_confirm = confirm

def confirm(message):
    if message.json()["number"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    _confirm(message)
"""


def test_exceptions_and_kills_reach_sentry_with_their_message(
    tmp_path: Path, sentry: _Sentry, readers: list[Shell]
) -> None:
    assert write_files("sentry", tmp_path) == ["preforkd.toml", "reporting.py", "report_exit.py", "handlers.py"]
    settings = (tmp_path / "preforkd.toml").read_text().replace("/srv/shop/.venv/bin/python", sys.executable)
    (tmp_path / "preforkd.toml").write_text(settings.replace("/srv/shop", str(tmp_path)))
    with (tmp_path / "handlers.py").open("a") as handlers:
        handlers.write(_KILLED)
    reader = reader_in(tmp_path, SENTRY_DSN=sentry.dsn)
    readers.append(reader)

    reader.ok("preforkd start; echo '{}' | preforkd publish orders --id-prefix odd-")
    raised = sentry.event('"type":"KeyError"')
    for text in ('"message_id":"odd-0"', '"attempt":1', '"queue":"orders"', '"round":1', '"function":"confirm"'):
        assert text in raised, raised
    assert "supervisor/worker" not in raised, "its stack begins in the handler"
    reader.ok('echo \'{"number": "kill"}\' | preforkd publish orders --id-prefix killed-')
    killed = sentry.event("worker.exited: killed")
    for text in ('"message_id":"killed-0"', '"attempt":1', '"cause":"killed"', '"signal":"SIGKILL"'):
        assert text in killed, killed
    log = "preforkd logs orders"
    eventually(lambda: "failed: KeyError" in reader.ok(log), "preforkd's own record is as before")
    reader.ok("preforkd stop --now")
