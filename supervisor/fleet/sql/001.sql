-- Schema version 1: the tables. Daemons reach them through functions only.
-- Tables only grow: a column or a table is never removed, as daemons of the former version may still be running.

CREATE TABLE preforkd.meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE preforkd.meta IS 'schema: the version of tables and functions; fleet: the name of the fleet';

-- The store's own time, in one row; see maintain_1. `keep_s`: how long settled rows are kept.
CREATE TABLE preforkd.clock (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    elapsed_s double precision NOT NULL DEFAULT 0,
    seen      timestamptz NOT NULL DEFAULT now(),
    keep_s    double precision NOT NULL DEFAULT 0
);
INSERT INTO preforkd.clock DEFAULT VALUES;

-- Epochs: one number for each time that a pool's ledger was opened. Never given twice.
CREATE SEQUENCE preforkd.epochs;

-- One row for each epoch. `turn` counts the calls of its holder. A call updates this row first, and so is a proof that
-- no other process has fenced the epoch. No index has a column that a call changes: such an update stays in its page.
CREATE TABLE preforkd.holder (
    epoch     bigint PRIMARY KEY,
    ledger    uuid NOT NULL,                      -- made with the ledger's file on the host
    place     text NOT NULL,                      -- where that file is; a copied or moved file has another place
    host      text NOT NULL,
    pool      text NOT NULL,
    queue     text NOT NULL,
    state     "char" NOT NULL CHECK (state IN ('l', 'f', 'g')),   -- live, fenced, gone
    lost      boolean NOT NULL DEFAULT false,     -- others decide about its rows
    heir      bigint,                             -- the epoch that has fenced it for its silence
    lost_by   bigint,                             -- the epoch that has declared it lost; none: an operator
    turn      bigint NOT NULL DEFAULT 0,
    turned_at timestamptz NOT NULL DEFAULT now(),
    began_at  timestamptz NOT NULL DEFAULT now(),
    last_part integer,                            -- the part of `settled` that was current when the epoch ended
    lease_s   double precision NOT NULL,
    max_run_s double precision NOT NULL,
    settings  bigint NOT NULL,                    -- a hash of the settings that must agree in a fleet
    version   text NOT NULL                       -- of preforkd
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX holder_live ON preforkd.holder (ledger) WHERE state = 'l';

-- What the fleet has in hand: at most one row for a message, whichever host. The primary key excludes the others.
-- Some thousand rows that come and go: vacuumed by their number, not by a part of the table.
CREATE TABLE preforkd.open (
    id      uuid NOT NULL,                        -- the first 16 bytes of a key
    digest  bigint NOT NULL,                      -- the last 8
    epoch   bigint NOT NULL,                      -- its holder
    at      timestamptz NOT NULL DEFAULT now(),
    round   integer NOT NULL,
    attempt integer NOT NULL,
    state   "char" NOT NULL CHECK (state IN ('c', 'R', 'D', 'P')),   -- claimed; retry, dead, parked pending
    name    text NOT NULL DEFAULT '',             -- the message's id
    note    bytea NOT NULL DEFAULT '',
    PRIMARY KEY (id, digest)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);

-- What was decided, in the order of time. Rows are only added; they are forgotten by dropping the oldest part. A part
-- is a number, not a range of `at`: so a clock that was set puts no row where it is not found or dropped too early.
CREATE SEQUENCE preforkd.settled_seq;
CREATE TABLE preforkd.settled (
    id      uuid NOT NULL,
    digest  bigint NOT NULL,
    seq     bigint NOT NULL DEFAULT nextval('preforkd.settled_seq'),   -- of rows of one message, the newest has the highest
    epoch   bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    round   integer NOT NULL,
    attempt integer NOT NULL,
    part    integer NOT NULL,
    state   "char" NOT NULL CHECK (state IN ('o', 'r', 'd', 'p', 'g')),   -- done, retry, dead, parked, gone
    name    text NOT NULL,
    note    bytea NOT NULL
) PARTITION BY LIST (part);
CREATE INDEX settled_id ON preforkd.settled (id);

-- The parts of `settled`. The one with the highest number is current: rows are added to it. `began_s`: the store's time.
CREATE TABLE preforkd.part (
    number  integer PRIMARY KEY,
    began_s double precision NOT NULL
);
CREATE TABLE preforkd.settled_1 PARTITION OF preforkd.settled FOR VALUES IN (1);
INSERT INTO preforkd.part VALUES (1, 0);

-- A message in a call of a holder: a claim, or a settle.
CREATE TYPE preforkd.entry AS (
    id      uuid,
    digest  bigint,
    round   integer,
    attempt integer,
    state   "char",
    name    text,
    note    bytea
);

-- Why a message of a call is refused: the row in the way, of `open` (is_open) or of `settled`, and its holder.
-- `age_s`: seconds since that row was written, by the server's clock.
CREATE TYPE preforkd.refusal AS (
    id      uuid,
    digest  bigint,
    round   integer,
    attempt integer,
    state   text,
    epoch   bigint,
    age_s   double precision,
    name    text,
    note    bytea,
    host    text,
    lost    boolean,
    is_open boolean
);
