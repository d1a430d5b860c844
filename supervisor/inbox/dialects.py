"""The SQL of the inbox in three dialects: its table, the four statements of `once`, cleaning. Pure; texts only.

`%s` stands for a parameter. `key` is quoted everywhere, because it is a word of SQL. The column `publications` tells
how far a block has come: an empty value while it is open, then NULL or what was published in it.
The first row is no message: its key is zero, and its `publications` are the identity of this database, by which a later
attempt recognises that it asks another one.
"""

from __future__ import annotations

from typing import NamedTuple

TABLE = "preforkd_inbox"
KEY_BYTES = 24
IDENTITY_KEY = bytes(KEY_BYTES)
IDENTITY_BYTES = 16
HOST_CHARACTERS = 255

_ZERO = "00" * KEY_BYTES


class Dialect(NamedTuple):
    """`make`: the statements that make the table and its first row; they may run again. `drop`: the one that undoes it.

    `identity`, `insert`, `finish`, `read`: the statements of `once`, in this order. `clean`: two parameters, the age in
    seconds and the largest number of rows. `returns_rows`: `insert`, `finish` and `clean` answer with rows (see each).
    `lock`: a statement before all of them, if there is one.
    """

    name: str
    title: str
    make: tuple[str, ...]
    identity: str
    insert: str
    finish: str
    read: str
    clean: str
    returns_rows: bool
    lock: str = ""
    drop: str = f"DROP TABLE {TABLE}"


POSTGRESQL = Dialect(
    name="postgresql",
    title="PostgreSQL",
    make=(
        f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    "key" BYTEA NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    host VARCHAR({HOST_CHARACTERS}) NOT NULL,
    publications BYTEA NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY ("key", round)
)""",
        f"CREATE INDEX IF NOT EXISTS {TABLE}_at ON {TABLE} (at)",
        f"""INSERT INTO {TABLE} ("key", round, attempt, host, publications)
    VALUES (decode('{_ZERO}', 'hex'), 0, 0, '', uuid_send(gen_random_uuid()))
    ON CONFLICT DO NOTHING""",
    ),
    identity=f'SELECT publications FROM {TABLE} WHERE "key" = %s AND round = 0',
    # In a savepoint the row has a transaction number of its own. The other one tells the transaction from later ones.
    insert=f'INSERT INTO {TABLE} ("key", round, attempt, host, publications) VALUES (%s, %s, %s, %s, %s)'
    " ON CONFLICT DO NOTHING"
    " RETURNING txid_current(), xmin::text::bigint <> txid_current() %% 4294967296",
    finish=f'UPDATE {TABLE} SET publications = %s WHERE "key" = %s AND round = %s RETURNING 1',
    read=f'SELECT attempt, host, publications FROM {TABLE} WHERE "key" = %s AND round = %s',
    clean=f"WITH deleted AS (DELETE FROM {TABLE} WHERE ctid = ANY(ARRAY("
    f"SELECT ctid FROM {TABLE} WHERE round > 0 AND at < now() - make_interval(secs => %s)"
    " ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM deleted",
    returns_rows=True,
)

MYSQL = Dialect(
    name="mysql",
    title="MySQL",
    make=(
        f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    `key` BINARY({KEY_BYTES}) NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    host VARCHAR({HOST_CHARACTERS}) CHARACTER SET utf8mb4 NOT NULL,
    publications LONGBLOB NULL,
    at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (`key`, round),
    INDEX {TABLE}_at (at)
) ENGINE = InnoDB""",
        f"""INSERT INTO {TABLE} (`key`, round, attempt, host, publications)
    VALUES (X'{_ZERO}', 0, 0, '', UNHEX(REPLACE(UUID(), '-', '')))
    ON DUPLICATE KEY UPDATE round = round""",
    ),
    # A locking read takes no snapshot: the handler's own first read does, after the insert has waited.
    identity=f"SELECT publications FROM {TABLE} WHERE `key` = %s AND round = 0 LOCK IN SHARE MODE",
    # A duplicate is an error here, which ends the statement and not the transaction: with ON DUPLICATE KEY UPDATE the
    # flag CLIENT_FOUND_ROWS, which SQLAlchemy and Django set, makes both answers equal, also that of ROW_COUNT().
    insert=f"INSERT INTO {TABLE} (`key`, round, attempt, host, publications) VALUES (%s, %s, %s, %s, %s)",
    finish=f"UPDATE {TABLE} SET publications = %s WHERE `key` = %s AND round = %s",
    # A plain read would use the transaction's snapshot, which may be older than the row.
    read=f"SELECT attempt, host, publications FROM {TABLE} WHERE `key` = %s AND round = %s LOCK IN SHARE MODE",
    clean=f"DELETE FROM {TABLE} WHERE round > 0 AND at < CURRENT_TIMESTAMP - INTERVAL %s SECOND ORDER BY at LIMIT %s",
    returns_rows=False,
)

SQLITE = Dialect(
    name="sqlite",
    title="SQLite",
    make=(
        f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    "key" BLOB NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    host VARCHAR({HOST_CHARACTERS}) NOT NULL,
    publications BLOB NULL,
    at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY ("key", round)
)""",
        f"CREATE INDEX IF NOT EXISTS {TABLE}_at ON {TABLE} (at)",
        f"""INSERT INTO {TABLE} ("key", round, attempt, host, publications)
    VALUES (zeroblob({KEY_BYTES}), 0, 0, '', randomblob(16))
    ON CONFLICT DO NOTHING""",
    ),
    identity=f'SELECT publications FROM {TABLE} WHERE "key" = %s AND round = 0',
    insert=f'INSERT INTO {TABLE} ("key", round, attempt, host, publications) VALUES (%s, %s, %s, %s, %s)'
    " ON CONFLICT DO NOTHING",
    finish=f'UPDATE {TABLE} SET publications = %s WHERE "key" = %s AND round = %s',
    read=f'SELECT attempt, host, publications FROM {TABLE} WHERE "key" = %s AND round = %s',
    clean=f"DELETE FROM {TABLE} WHERE rowid IN (SELECT rowid FROM {TABLE} WHERE round > 0"
    " AND at < datetime('now', '-' || %s || ' seconds') ORDER BY at LIMIT %s)",
    returns_rows=False,
    # It changes nothing, and waits for other writers. A transaction that reads first and writes then fails at once.
    lock=f"DELETE FROM {TABLE} WHERE 0",
)

DIALECTS = {dialect.name: dialect for dialect in (POSTGRESQL, MYSQL, SQLITE)}


def script(dialect: Dialect) -> str:
    """The statements of `make` as a script for the database's own client."""
    return "".join(f"{statement};\n" for statement in dialect.make)
