-- The life of a holder: registered, resumed after a lost connection, gone. Each function locks the row of the holder
-- before any row of `open`, and rows of `open` in the order of their keys. So no two calls wait for each other.

-- What this store is. Daemons call it before all others.
CREATE OR REPLACE FUNCTION preforkd.about_1()
RETURNS TABLE (schema integer, fleet text, keep_s double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = preforkd, pg_temp
AS $$
    SELECT (SELECT value::integer FROM meta WHERE name = 'schema'),
           (SELECT value FROM meta WHERE name = 'fleet'),
           (SELECT keep_s FROM clock)
$$;

-- Internal: the part of `settled` to which rows are added.
CREATE OR REPLACE FUNCTION preforkd.current_part()
RETURNS integer LANGUAGE sql STABLE SET search_path = preforkd, pg_temp
AS $$ SELECT max(number) FROM part $$;

-- Internal: begin call number `turn` of the holder `me`. Errors: PF001, the epoch has ended; PF002, another call has this
-- number or the holder's count is another: the request is late, the state directory was copied, or commits were lost.
CREATE OR REPLACE FUNCTION preforkd.begin_turn(me bigint, turn bigint)
RETURNS void LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found_turn bigint;
BEGIN
    UPDATE holder SET turn = holder.turn + 1, turned_at = now()
     WHERE epoch = me AND holder.turn = begin_turn.turn AND state = 'l';
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT holder.turn INTO found_turn FROM holder WHERE epoch = me AND state = 'l';
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PF002',
            MESSAGE = format('epoch %s is at turn %s, not at %s', me, found_turn, begin_turn.turn);
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'PF001', MESSAGE = format('epoch %s has ended', me);
END
$$;

-- Begin a new epoch of a host's ledger. The former one is fenced, and its open rows become the new epoch's; rows that
-- other holders have adopted stay theirs.
--
-- The caller holds the lock on the ledger's file. A live holder with the same place is therefore a process that has
-- ended. With another place it may live: the state directory was copied or moved, or the machine has booted. Then
-- `epoch` is NULL, and the blocker is told. A blocker that has made no call for its lease by the caller's clock is
-- given as `silent` and `silent_turn`, and is fenced if that is still its turn.
CREATE OR REPLACE FUNCTION preforkd.register_1(
    ledger uuid, place text, host text, pool text, queue text, lease_s double precision, max_run_s double precision,
    settings bigint, version text, silent bigint DEFAULT NULL, silent_turn bigint DEFAULT NULL
)
RETURNS TABLE (epoch bigint, turn bigint, blocker_epoch bigint, blocker_turn bigint, blocker_host text,
               blocker_lease_s double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    former holder;
BEGIN
    -- Two registrations of one ledger take place one after the other.
    PERFORM pg_advisory_xact_lock(hashtextextended('preforkd.register ' || register_1.ledger, 0));
    -- step: registers
    -- Waits for a call of the former holder under way; what that call wrote is seen below.
    SELECT * INTO former FROM holder h WHERE h.ledger = register_1.ledger AND h.state = 'l' FOR UPDATE;
    IF FOUND AND former.place <> register_1.place
             AND (former.epoch, former.turn) IS DISTINCT FROM (silent, silent_turn) THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, former.epoch, former.turn, former.host, former.lease_s;
        RETURN;
    END IF;

    -- step: fences
    UPDATE holder h SET state = 'f', last_part = current_part() WHERE h.epoch = former.epoch;
    INSERT INTO holder AS h (epoch, ledger, place, host, pool, queue, state, lease_s, max_run_s, settings, version)
    VALUES (nextval('epochs'), register_1.ledger, register_1.place, register_1.host, register_1.pool,
            register_1.queue, 'l', register_1.lease_s,
            -- Runs of the rows that are taken over may have begun under a longer limit.
            greatest(register_1.max_run_s, (SELECT max(h.max_run_s) FROM holder h JOIN open o ON o.epoch = h.epoch
                                             WHERE h.ledger = register_1.ledger)),
            register_1.settings, register_1.version)
    RETURNING h.epoch, h.turn INTO register_1.epoch, register_1.turn;

    -- step: registered
    -- An adoption of such a row may be under way: locked in the order of keys, as adoptions are.
    PERFORM FROM open o
      WHERE o.epoch IN (SELECT h.epoch FROM holder h WHERE h.ledger = register_1.ledger)
      ORDER BY o.id, o.digest FOR UPDATE;
    -- step: takes-over
    UPDATE open o SET epoch = register_1.epoch
     WHERE o.epoch IN (SELECT h.epoch FROM holder h WHERE h.ledger = register_1.ledger);
    RETURN NEXT;
END
$$;

-- Go on with an epoch on a new connection. A request of the former connection that arrives later is void (PF002); one
-- under way ends first. Gives the turn of the next call. Error: PF001.
CREATE OR REPLACE FUNCTION preforkd.resume_1(me bigint)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    next_turn bigint;
BEGIN
    UPDATE holder SET turn = turn + 1, turned_at = now() WHERE epoch = me AND state = 'l' RETURNING turn INTO next_turn;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PF001', MESSAGE = format('epoch %s has ended', me);
    END IF;
    RETURN next_turn;
END
$$;

-- The open rows of a holder, oldest first.
CREATE OR REPLACE FUNCTION preforkd.mine_1(me bigint)
RETURNS TABLE (id uuid, digest bigint, round integer, attempt integer, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = preforkd, pg_temp
AS $$
    SELECT o.id, o.digest, o.round, o.attempt, o.state::text FROM open o WHERE o.epoch = me
     ORDER BY o.at, o.id, o.digest
$$;

-- The last call of a holder that stops. True: nothing of it is open, and the epoch has ended. False: it stays live, as
-- only its own host can decide about what is open. Errors: PF001, PF002.
CREATE OR REPLACE FUNCTION preforkd.leave_1(me bigint, turn bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
BEGIN
    PERFORM begin_turn(me, leave_1.turn);
    -- step: leaves
    UPDATE holder h SET state = 'g', last_part = current_part()
     WHERE h.epoch = me AND NOT EXISTS (SELECT FROM open o WHERE o.epoch = me);
    RETURN FOUND;
END
$$;
