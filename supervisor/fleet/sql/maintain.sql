-- What has to be done from time to time, by any daemon: a new part of `settled`, and the end of the oldest.

-- Any holder calls it, some times an hour. `keep_s`: how long its pool keeps settled rows. The longest counts that any
-- pool has ever given. Gives what there is now; nothing while another call is under way.
--
-- No clock decides alone what is forgotten. The store has a time of its own, `elapsed_s`: the time between two calls as
-- the server's clock says, of which an hour at most counts, and never less than none. So a clock that is set forward by
-- days lets the store grow older by an hour. One part at most is dropped in a call.
CREATE OR REPLACE FUNCTION preforkd.maintain_1(keep_s double precision)
RETURNS TABLE (current integer, parts integer, dropped integer, store_s double precision, kept_s double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = preforkd, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    max_step_s  constant double precision := 3600;
    straggler_s constant double precision := 60;  -- a settle that had begun may write to the former part a little later
    last_began_s double precision;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('preforkd.maintain', 0)) THEN
        RETURN;
    END IF;
    SELECT m.elapsed_s + least(greatest(extract(epoch FROM clock_timestamp() - m.seen), 0), max_step_s),
           greatest(m.keep_s, maintain_1.keep_s)
      INTO store_s, kept_s FROM clock m;
    UPDATE clock SET elapsed_s = store_s, seen = clock_timestamp(), keep_s = kept_s;

    SELECT p.number, p.began_s INTO current, last_began_s FROM part p ORDER BY p.number DESC LIMIT 1;
    IF store_s >= last_began_s + kept_s / 3 THEN
        current := current + 1;
        PERFORM add_part(current, store_s);
    END IF;

    -- The oldest, if it ended, as the next began, longer ago than rows are kept.
    SELECT p.number INTO dropped
      FROM part p JOIN part n ON n.number = p.number + 1
     WHERE n.began_s + kept_s + straggler_s <= store_s ORDER BY p.number LIMIT 1;
    IF NOT drop_part(dropped) THEN
        dropped := NULL;
    END IF;
    SELECT count(*) INTO parts FROM part;

    -- Epochs that no row names any more.
    DELETE FROM holder h
     WHERE h.state <> 'l' AND h.last_part < (SELECT min(number) FROM part)
       AND NOT EXISTS (SELECT FROM open o WHERE o.epoch = h.epoch);
    RETURN NEXT;
END
$$;

-- Internal: a new part, to which rows are added from now on. It is made as a table of its own and attached then: that
-- waits for no claim or settle, and none waits for it.
CREATE OR REPLACE FUNCTION preforkd.add_part(number integer, began_s double precision)
RETURNS void LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TABLE settled_%s (LIKE settled INCLUDING ALL)', number);
    EXECUTE format('ALTER TABLE settled ATTACH PARTITION settled_%s FOR VALUES IN (%s)', number, number);
    INSERT INTO part VALUES (number, began_s);
END
$$;

-- Internal: drop a part, if that needs no longer than a moment: claims wait meanwhile. NULL: there is none.
CREATE OR REPLACE FUNCTION preforkd.drop_part(number integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = preforkd, pg_temp
AS $$
BEGIN
    IF number IS NULL THEN
        RETURN false;
    END IF;
    PERFORM set_config('lock_timeout', '100ms', true);
    EXECUTE format('DROP TABLE settled_%s', number);
    DELETE FROM part p WHERE p.number = drop_part.number;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;  -- the next call tries again
END
$$;
