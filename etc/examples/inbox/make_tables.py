"""Makes the tables of the example in the file $DATABASE: the inbox, and accounts with 100 each.

For a server use `preforkd inbox sql --dialect postgresql | psql shop`, or a migration.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing

SHOP = """
CREATE TABLE accounts (name TEXT PRIMARY KEY, amount INTEGER NOT NULL);
INSERT INTO accounts VALUES ('ann', 100), ('bob', 100);
"""

inbox = subprocess.run(
    ["preforkd", "inbox", "sql", "--dialect", "sqlite"], stdout=subprocess.PIPE, text=True, check=True
).stdout
with closing(sqlite3.connect(os.environ["DATABASE"])) as db:
    db.executescript("PRAGMA journal_mode = WAL;" + inbox + SHOP)
