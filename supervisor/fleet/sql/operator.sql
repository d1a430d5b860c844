-- For operators: who is there, and what is lost.

-- The holders that are live or have open rows. `idle_s`: since the last call, by the server's clock. `fenced_by`: the host
-- that has ended the epoch for its silence; `lost_by`: the one that has declared it lost, '' where an operator did.
CREATE OR REPLACE FUNCTION preforkd.holders_1()
RETURNS TABLE (host text, pool text, queue text, epoch bigint, state text, lost boolean, idle_s double precision,
               claimed bigint, retry_pending bigint, dead_pending bigint, parked_pending bigint,
               lease_s double precision, settings bigint, version text, fenced_by text, lost_by text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = preforkd, pg_temp
AS $$
    SELECT h.host, h.pool, h.queue, h.epoch, h.state::text, h.lost,
           greatest(extract(epoch FROM now() - h.turned_at), 0)::double precision,
           count(*) FILTER (WHERE o.state = 'c'), count(*) FILTER (WHERE o.state = 'R'),
           count(*) FILTER (WHERE o.state = 'D'), count(*) FILTER (WHERE o.state = 'P'),
           h.lease_s, h.settings, h.version,
           coalesce((SELECT by.host FROM holder by WHERE by.epoch = h.heir), ''),
           coalesce((SELECT by.host FROM holder by WHERE by.epoch = h.lost_by), '')
      FROM holder h LEFT JOIN open o ON o.epoch = h.epoch
     WHERE h.state = 'l' OR o.epoch IS NOT NULL
     GROUP BY h.epoch
     ORDER BY h.host, h.pool, h.epoch
$$;

-- Declare a host lost: its epochs end, and the other hosts decide about what it had open, also where it was fenced before.
-- A daemon there that lives all the same is refused from now on; it registers again. Not for daemons: the owner of the
-- schema alone may do it.
CREATE OR REPLACE FUNCTION preforkd.forget_1(host text)
RETURNS TABLE (epoch bigint, pool text, queue text, open_rows bigint)
LANGUAGE plpgsql SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    epochs bigint[];
BEGIN
    -- Waits for calls of these holders under way; what they wrote is counted.
    PERFORM FROM holder h WHERE h.host = forget_1.host AND h.state <> 'g' AND NOT h.lost ORDER BY h.epoch FOR UPDATE;
    -- step: forgets
    WITH ended AS (
        UPDATE holder h SET state = 'f', lost = true, last_part = coalesce(h.last_part, current_part())
         WHERE h.host = forget_1.host AND NOT h.lost
           AND (h.state = 'l' OR (h.state = 'f' AND EXISTS (SELECT FROM open o WHERE o.epoch = h.epoch)))
        RETURNING h.epoch
    )
    SELECT array_agg(e.epoch) INTO epochs FROM ended e;
    RETURN QUERY
    SELECT h.epoch, h.pool, h.queue, (SELECT count(*) FROM open o WHERE o.epoch = h.epoch)
      FROM holder h WHERE h.epoch = ANY (epochs) ORDER BY h.epoch;
END
$$;
