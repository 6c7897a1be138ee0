-- What a chaos run does to the database, and what it has the database watch meanwhile.

-- end_connections --
-- End every connection of a service.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'traceflow%';

-- latest_partition --
-- The partition of the day of which most events are.
SELECT n.nspname, c.relname
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = 'public.traceflow_events'::regclass
ORDER BY pg_relation_size(c.oid) DESC, c.relname LIMIT 1;

-- lock_partition --
-- Let nobody into a partition, as a careless ALTER TABLE does.
LOCK TABLE {} IN ACCESS EXCLUSIVE MODE;

-- lock_offsets --
-- Hold the row of a partition of the events sink, as a frozen owner does.
SELECT sink, part FROM public.traceflow_sink_offsets WHERE sink = 'events' ORDER BY random() LIMIT 1 FOR UPDATE;

-- make_disk_full --
-- Raise what the server raises when its disk is full.
CREATE OR REPLACE FUNCTION public.chaos_disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;

-- fill_disk --
-- Let every insertion into a table fail.
CREATE TRIGGER chaos_disk_full BEFORE INSERT ON {} FOR EACH STATEMENT EXECUTE FUNCTION public.chaos_disk_full();

-- free_disk --
-- Let insertions succeed again.
DROP TRIGGER chaos_disk_full ON {};

-- make_regressions --
-- Where a sink's offset or epoch moved back, which no owner may do.
CREATE TABLE public.chaos_regressions (
  sink text NOT NULL, part integer NOT NULL, before bigint NOT NULL, after bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- watch_offsets --
-- Note an offset that moves back, and let it.
CREATE FUNCTION public.chaos_watch_offsets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.next_offset < OLD.next_offset THEN
    INSERT INTO public.chaos_regressions (sink, part, before, after)
    VALUES (OLD.sink, OLD.part, OLD.next_offset, NEW.next_offset);
  END IF;
  RETURN NEW;
END $$;

-- begin_watch --
-- Look at each move.
CREATE TRIGGER chaos_watch_offsets BEFORE UPDATE ON public.traceflow_sink_offsets
FOR EACH ROW EXECUTE FUNCTION public.chaos_watch_offsets();
