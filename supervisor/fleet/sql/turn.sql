-- One turn of a holder: its claims and its settles, in one call and one transaction. Without both it is the beat.
--
-- A claim first takes the place of its message in `open`, and only then looks at `settled`, in a later statement with a
-- newer snapshot. A settle moves its row in one transaction. So a claim meets either the open row or the settled one.
--
-- Locks, in this order: the row of the holder, then rows of `open` in the order of their keys. Only claims wait for
-- other holders. Settles touch rows of the holder itself, which no other process changes while its epoch is live.
-- Nothing is retried out of this order: so no two turns wait for each other.
--
-- A line `-- step: name` is a place where tests hold a call (tests/support/fleet_steps.py). They run calls at the same
-- time in every order of their steps.

-- Internal: the messages of a call, from one array for each column.
CREATE OR REPLACE FUNCTION preforkd.as_entries(ids uuid[], digests bigint[], rounds integer[], attempts integer[],
                                               states text[], names text[], notes bytea[])
RETURNS preforkd.entry[] LANGUAGE sql IMMUTABLE SET search_path = preforkd, pg_temp
AS $$
    SELECT ARRAY(SELECT (u.id, u.digest, u.round, u.attempt, u.state::"char", coalesce(u.name, ''),
                         coalesce(u.note, ''))::entry
                   FROM unnest(ids, digests, rounds, attempts, states, names, notes)
                        u (id, digest, round, attempt, state, name, note))
$$;

-- Internal: the state of the open row for a claim, or for a settle without one (see without_place).
CREATE OR REPLACE FUNCTION preforkd.open_state(state "char") RETURNS "char" LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN state IN ('R', 'D', 'P') THEN state ELSE 'c' END $$;

-- Internal: take the places of `claims`, given in the order of their keys. `fresh`: those whose place was free; `settled`
-- may still refuse them. `refused`: by `open`. All others are granted.
CREATE OR REPLACE FUNCTION preforkd.take(me bigint, claims preforkd.entry[], current integer,
                                         OUT fresh preforkd.entry[], OUT refused preforkd.refusal[])
LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
DECLARE
    claim    entry;
    pending  "char";              -- the state of its row
    other    open;                -- the row in the way
    owner    holder;              -- of that
    order_   integer;             -- 1: the claim is of a later run; 0: of the same; -1: of an earlier
    replaced open[] := '{}';
BEGIN
    refused := '{}';
    -- As a rule all places are free: one statement is three times as fast as one for each claim. If one is not free, all
    -- are given up again, and with them the locks: so the claims below begin again in the order of their keys.
    BEGIN
        INSERT INTO open (id, digest, epoch, round, attempt, state, name, note)
        SELECT c.id, c.digest, me, c.round, c.attempt, open_state(c.state), c.name, c.note FROM unnest(claims) c;
        fresh := claims;
        RETURN;
    EXCEPTION WHEN unique_violation THEN
        fresh := '{}';
    END;

    FOREACH claim IN ARRAY claims LOOP
        pending := open_state(claim.state);
        LOOP  -- until decided: the row in the way may be gone when it is read
            INSERT INTO open (id, digest, epoch, round, attempt, state, name, note)
            VALUES (claim.id, claim.digest, me, claim.round, claim.attempt, pending, claim.name, claim.note)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                fresh := fresh || claim;
                EXIT;
            END IF;
            -- step: not-taken
            SELECT * INTO other FROM open o WHERE o.id = claim.id AND o.digest = claim.digest;
            CONTINUE WHEN NOT FOUND;
            SELECT * INTO owner FROM holder h WHERE h.epoch = other.epoch;

            order_ := CASE WHEN (claim.round, claim.attempt) > (other.round, other.attempt) THEN 1
                           WHEN (claim.round, claim.attempt) = (other.round, other.attempt) THEN 0
                           ELSE -1 END;
            -- A decision of a lost holder is adopted as it was made: its copy may be on its way.
            IF (other.epoch = me AND order_ >= 0)
               OR (owner.lost AND (order_ = 1 OR (order_ = 0 AND pending <> 'c' AND other.state IN ('c', pending))))
            THEN
                -- step: replaces
                UPDATE open o
                   SET epoch = me, at = now(), round = claim.round, attempt = claim.attempt, state = pending,
                       name = claim.name, note = claim.note
                 WHERE o.id = claim.id AND o.digest = claim.digest
                   AND o.epoch = other.epoch AND o.round = other.round AND o.attempt = other.attempt
                   AND o.state = other.state;
                CONTINUE WHEN NOT FOUND;  -- changed since it was read
                IF order_ = 1 AND other.state <> 'c' THEN
                    replaced := replaced || other;
                END IF;
            ELSE
                refused := refused || (
                    claim.id, claim.digest, other.round, other.attempt, other.state::text, other.epoch,
                    greatest(extract(epoch FROM now() - other.at), 0)::double precision, other.name, other.note,
                    coalesce(owner.host, ''), coalesce(owner.lost, false), true)::refusal;
            END IF;
            EXIT;
        END LOOP;
    END LOOP;

    -- A later run of such a message exists: so the copy that was pending is confirmed.
    IF replaced <> '{}' THEN
        INSERT INTO settled (id, digest, epoch, round, attempt, part, state, name, note)
        SELECT r.id, r.digest, r.epoch, r.round, r.attempt, current, lower(r.state::text)::"char", r.name, r.note
          FROM unnest(replaced) r;
    END IF;
END
$$;

-- Internal: give up those fresh places again whose message is settled. Gives the claims that are refused so. The places are
-- taken: what was settled before that is seen here, and no other holder can settle these messages meanwhile.
--
-- A settled row refuses if it is of a later run, of the same run, or done in the same round. Of several rows of one run
-- the newest counts. A message that is gone (g) may be decided again, not run; a retry (r) may be found to be gone.
CREATE OR REPLACE FUNCTION preforkd.give_up_settled(me bigint, claims preforkd.entry[])
RETURNS SETOF preforkd.refusal
LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH newest AS (
        SELECT DISTINCT ON (c.id, c.digest) s.*, c.round AS its_round, c.attempt AS its_attempt, c.state AS its_state
          FROM unnest(claims) c JOIN settled s ON s.id = c.id AND s.digest = c.digest
         ORDER BY c.id, c.digest, (s.round = c.round AND s.state = 'o') DESC,
                  s.round DESC, s.attempt DESC, s.seq DESC
    ), refused AS (
        SELECT n.* FROM newest n
         WHERE (n.round = n.its_round AND n.state = 'o')
            OR (n.round, n.attempt) > (n.its_round, n.its_attempt)
            OR ((n.round, n.attempt) = (n.its_round, n.its_attempt)
                AND NOT (n.state = 'g' AND n.its_state IN ('R', 'D', 'P', 'r', 'd', 'p'))
                AND NOT (n.state = 'r' AND n.its_state = 'g'))
    ), undone AS (
        DELETE FROM open o USING refused r WHERE o.id = r.id AND o.digest = r.digest AND o.epoch = me
    )
    SELECT r.id, r.digest, r.round, r.attempt, r.state::text, r.epoch,
           greatest(extract(epoch FROM now() - r.at), 0)::double precision,
           r.name, r.note, coalesce(h.host, ''), false, false
      FROM refused r LEFT JOIN holder h ON h.epoch = r.epoch;
END
$$;

-- Internal: those of `settles` that need a place first, as they have no open row of the holder: the store has forgotten
-- it, or another holder has decided. Not those that were settled in this way before, and not what is given back.
CREATE OR REPLACE FUNCTION preforkd.without_place(me bigint, settles preforkd.entry[])
RETURNS SETOF preforkd.entry
LANGUAGE plpgsql STABLE SET search_path = preforkd, pg_temp
AS $$
DECLARE
    missing entry[];
BEGIN
    missing := ARRAY(
        SELECT s FROM unnest(settles) s
         WHERE s.state <> 'u'
           AND NOT EXISTS (SELECT FROM open o
                            WHERE o.id = s.id AND o.digest = s.digest AND o.epoch = me
                              AND o.round = s.round AND o.attempt = s.attempt));
    IF missing <> '{}' THEN
        RETURN QUERY
        SELECT m.* FROM unnest(missing) m
         WHERE NOT EXISTS (
            SELECT FROM settled t
             WHERE t.id = m.id AND t.digest = m.digest AND t.round = m.round AND t.attempt = m.attempt
               AND t.state = m.state
               -- Found to be gone again, after it was decided again: not the same word.
               AND (t.state <> 'g' OR t.seq = (SELECT max(n.seq) FROM settled n
                                                WHERE n.id = m.id AND n.digest = m.digest
                                                  AND n.round = m.round AND n.attempt = m.attempt)));
    END IF;
END
$$;

-- Internal: settle what the holder has open. What was refused has no open row of this run, and is left.
CREATE OR REPLACE FUNCTION preforkd.settle(me bigint, settles preforkd.entry[], current integer)
RETURNS void LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
BEGIN
    UPDATE open o
       SET state = s.state, at = now(), name = coalesce(nullif(s.name, ''), o.name), note = s.note
      FROM unnest(settles) s
     WHERE s.state IN ('R', 'D', 'P')
       AND o.id = s.id AND o.digest = s.digest AND o.epoch = me AND o.round = s.round AND o.attempt = s.attempt;
    WITH ended AS (
        DELETE FROM open o USING unnest(settles) s
         WHERE s.state NOT IN ('R', 'D', 'P')
           AND o.id = s.id AND o.digest = s.digest AND o.epoch = me AND o.round = s.round AND o.attempt = s.attempt
        RETURNING s.id, s.digest, s.round, s.attempt, s.state, coalesce(nullif(s.name, ''), o.name) AS name, s.note
    )
    INSERT INTO settled (id, digest, epoch, round, attempt, part, state, name, note)
    SELECT e.id, e.digest, me, e.round, e.attempt, current, e.state, e.name, e.note FROM ended e WHERE e.state <> 'u';
END
$$;

-- One turn of the holder `me`, its call number `turn`. Gives what was refused, with the row in the way, which is in
-- `open` or in `settled`; nothing was written of it. The same request again has the same answer. Errors: PF001, PF002.
--
-- A message is in one of both lists, once. State of a claim: c; or R, D, P where a message is decided without a run
-- here. State of a settle: o, r, d, p, g move the row to `settled`; R, D, P leave it open; u (not begun) deletes it.
-- A name that is empty leaves the claim's.
--
-- The planner's settings: every look-up is one by an index, however small a table was when the plan was made.
CREATE OR REPLACE FUNCTION preforkd.turn_1(
    me bigint, turn bigint,
    claim_ids uuid[] DEFAULT '{}', claim_digests bigint[] DEFAULT '{}', claim_rounds integer[] DEFAULT '{}',
    claim_attempts integer[] DEFAULT '{}', claim_states text[] DEFAULT '{}', claim_names text[] DEFAULT '{}',
    claim_notes bytea[] DEFAULT '{}',
    settle_ids uuid[] DEFAULT '{}', settle_digests bigint[] DEFAULT '{}', settle_rounds integer[] DEFAULT '{}',
    settle_attempts integer[] DEFAULT '{}', settle_states text[] DEFAULT '{}', settle_names text[] DEFAULT '{}',
    settle_notes bytea[] DEFAULT '{}'
)
RETURNS SETOF preforkd.refusal
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    settles entry[];
    claims  entry[];
    refused refusal[];
    current integer;
BEGIN
    PERFORM begin_turn(me, turn_1.turn);
    -- step: begun
    -- Read before `settled` is locked for the first time: so this part is known to be there.
    current := current_part();
    settles := as_entries(settle_ids, settle_digests, settle_rounds, settle_attempts, settle_states, settle_names,
                          settle_notes);
    claims := as_entries(claim_ids, claim_digests, claim_rounds, claim_attempts, claim_states, claim_names, claim_notes);
    IF settles <> '{}' THEN
        claims := claims || ARRAY(SELECT w::entry FROM without_place(me, settles) w);
    END IF;
    IF claims <> '{}' THEN
        claims := ARRAY(SELECT c::entry FROM unnest(claims) c ORDER BY c.id, c.digest);
        SELECT t.fresh, t.refused INTO claims, refused FROM take(me, claims, current) t;
        RETURN QUERY SELECT * FROM unnest(refused);
        -- step: taken
        RETURN QUERY SELECT * FROM give_up_settled(me, claims);
    END IF;
    IF settles <> '{}' THEN
        -- step: settles
        PERFORM settle(me, settles, current);
    END IF;
END
$$;
