-- What holders do about another one that is silent: look at it, end its epoch, and at last let others decide about its
-- rows. No clock of the server takes part: the caller measures by its own how long the turn of another stood still.
--
-- Each call locks the rows of both holders in the order of epochs, and no row of `open`. So no two calls wait for each
-- other, and of two holders that would end each other one does.

-- Internal: lock the caller's row and that of another. Error: PF001, the caller's epoch has ended.
CREATE OR REPLACE FUNCTION preforkd.lock_both(me bigint, other bigint)
RETURNS void LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
BEGIN
    -- Waits for a call of either under way; what that wrote is seen below.
    PERFORM FROM holder h WHERE h.epoch IN (me, other) ORDER BY h.epoch FOR UPDATE;
    -- step: both
    IF NOT EXISTS (SELECT FROM holder h WHERE h.epoch = me AND h.state = 'l') THEN
        RAISE EXCEPTION USING ERRCODE = 'PF001', MESSAGE = format('epoch %s has ended', me);
    END IF;
END
$$;

-- The holders on the queue of `me` that it has to watch: those that live, and those that were fenced, have open rows and
-- are not lost. Not those of its own ledger. `open_rows`: of fenced ones. `settings`:
-- as in the table. Error: PF001.
CREATE OR REPLACE FUNCTION preforkd.peers_1(me bigint)
RETURNS TABLE (epoch bigint, turn bigint, state text, host text, lease_s double precision, max_run_s double precision,
               open_rows bigint, settings bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = preforkd, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine holder;
BEGIN
    SELECT * INTO mine FROM holder h WHERE h.epoch = me AND h.state = 'l';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PF001', MESSAGE = format('epoch %s has ended', me);
    END IF;
    RETURN QUERY
    WITH fenced AS (
        SELECT h.epoch, count(*) AS open_rows FROM holder h JOIN open o ON o.epoch = h.epoch
         WHERE h.state = 'f' AND NOT h.lost GROUP BY h.epoch
    )
    SELECT h.epoch, h.turn, h.state::text, h.host, h.lease_s, h.max_run_s, coalesce(f.open_rows, 0),
           h.settings
      FROM holder h LEFT JOIN fenced f ON f.epoch = h.epoch
     WHERE h.queue = mine.queue AND h.ledger <> mine.ledger AND (h.state = 'l' OR f.epoch IS NOT NULL)
     ORDER BY h.epoch;
END
$$;

-- End the epoch of another holder that is silent. `seen_turn`: the turn at which the caller has seen it stand still.
-- False: it has called since, or has ended. Its open rows stay its own until `lose_1`. Error: PF001.
CREATE OR REPLACE FUNCTION preforkd.fence_1(me bigint, other bigint, seen_turn bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
BEGIN
    PERFORM lock_both(me, other);
    -- step: ends
    UPDATE holder h SET state = 'f', heir = me, last_part = current_part()
     WHERE h.epoch = other AND h.state = 'l' AND h.turn = seen_turn;
    RETURN FOUND;
END
$$;

-- Let others decide about the rows of a holder that was fenced. The caller answers for it that no run of that holder
-- goes on: the longest time for a run has passed since it saw the fence. False: another did so, or it is not fenced.
-- Error: PF001.
CREATE OR REPLACE FUNCTION preforkd.lose_1(me bigint, other bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
BEGIN
    PERFORM lock_both(me, other);
    -- step: loses
    UPDATE holder h SET lost = true, lost_by = me WHERE h.epoch = other AND h.state = 'f' AND NOT h.lost;
    RETURN FOUND;
END
$$;
