-- Retention: how long events, recordings and sessions stay. The table is the only place that says it; whoever prunes, and
-- whoever asks for the partition of a day, asks here.

-- 15 days: an event may be 7 days old when it arrives and then lies in the log for 7 days, beginning within a day; so long
-- its row can be compared with the log, and put back from it. A session outlives what hangs on it: its counters would
-- begin anew with the next row.
CREATE TABLE public.traceflow_retention (
  id BOOLEAN PRIMARY KEY DEFAULT true CHECK (id),
  events_days INTEGER CHECK (events_days >= 15),
  recordings_days INTEGER CHECK (recordings_days >= 15),
  sessions_days INTEGER CHECK (sessions_days >= 15),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT sessions_stay_longest CHECK (
    sessions_days IS NULL
    OR coalesce(events_days <= sessions_days, false) AND coalesce(recordings_days <= sessions_days, false)
  )
);
INSERT INTO public.traceflow_retention DEFAULT VALUES;

COMMENT ON TABLE public.traceflow_retention IS 'How many days before today (UTC) stay: one row. The sinks drop what is older, hourly; NULL: kept for ever. Changed by: traceflow partitions keep.';
COMMENT ON COLUMN public.traceflow_retention.id IS 'Always true: there is one row.';
COMMENT ON COLUMN public.traceflow_retention.events_days IS 'Of traceflow_events, by their day. At least 15.';
COMMENT ON COLUMN public.traceflow_retention.recordings_days IS 'Of session_recording_chunks, by their day, and of session_recordings, by their last activity. At least 15.';
COMMENT ON COLUMN public.traceflow_retention.sessions_days IS 'Of traceflow_sessions, by their last activity, with their AI jobs and links of UX issues. At least as long as events and recordings.';
COMMENT ON COLUMN public.traceflow_retention.updated_at IS 'When it was changed last.';

CREATE TRIGGER update_traceflow_retention_timestamp BEFORE UPDATE ON public.traceflow_retention
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR DELETE ON public.traceflow_retention
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('id');
CREATE TRIGGER write_traceflow_audit_log_of_days AFTER UPDATE ON public.traceflow_retention
  FOR EACH ROW WHEN (
    (OLD.events_days, OLD.recordings_days, OLD.sessions_days)
    IS DISTINCT FROM (NEW.events_days, NEW.recordings_days, NEW.sessions_days)
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');

ALTER TABLE public.traceflow_retention ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.traceflow_retention FROM PUBLIC, anon, authenticated;
GRANT ALL ON public.traceflow_retention TO service_role;
GRANT SELECT ON public.traceflow_retention TO traceflow_sink, traceflow_analyst;
-- For logins that are only members of the role: its right to pass by policies is not inherited.
CREATE POLICY "Sinks can view" ON public.traceflow_retention FOR SELECT TO traceflow_sink USING (true);
CREATE POLICY "Analysts can view" ON public.traceflow_retention FOR SELECT TO traceflow_analyst USING (true);

CREATE FUNCTION traceflow_parts.today() RETURNS DATE LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT (now() AT TIME ZONE 'UTC')::date
$$;

CREATE FUNCTION traceflow_parts.kept_since(relation REGCLASS) RETURNS DATE
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT traceflow_parts.today() - CASE relation
    WHEN 'public.traceflow_events'::regclass THEN events_days
    WHEN 'public.session_recording_chunks'::regclass THEN recordings_days
    WHEN 'public.session_recordings'::regclass THEN recordings_days
    WHEN 'public.traceflow_sessions'::regclass THEN sessions_days
  END
  FROM public.traceflow_retention
$$;

-- What is being detached has its row in pg_inherits until the end, but takes no rows any more.
CREATE OR REPLACE FUNCTION traceflow_parts.has_leaf(parent REGCLASS, leaf TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent AND c.relname = leaf AND NOT i.inhdetachpending
  )
$$;

-- As in 0007, but a day that is kept no longer gets no partition, nor one whose partition is on its way out: a table of
-- that name that is no partition was left by a prune that ended half-way, and the next one drops it.
CREATE OR REPLACE FUNCTION traceflow_parts.ensure_day(parent REGCLASS, d DATE) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
  by_date boolean := parent = 'public.session_recording_chunks'::regclass;
  leaf text := (SELECT relname FROM pg_catalog.pg_class WHERE oid = parent) || to_char(d, '"_"YYYYMMDD');
  suffix text := CASE WHEN by_date THEN '' ELSE ' 00:00:00+00' END;
BEGIN
  IF NOT by_date AND parent <> 'public.traceflow_events'::regclass THEN
    RAISE EXCEPTION '% is not partitioned by day', parent USING ERRCODE = 'wrong_object_type';
  END IF;
  IF d < traceflow_parts.kept_since(parent) THEN
    RETURN NULL;
  END IF;
  IF traceflow_parts.has_leaf(parent, leaf) THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('traceflow_parts'), hashtext(leaf));
  IF traceflow_parts.has_leaf(parent, leaf) THEN
    RETURN false;
  END IF;
  IF EXISTS (
    SELECT FROM pg_catalog.pg_class WHERE relnamespace = 'traceflow_parts'::regnamespace AND relname = leaf
  ) THEN
    RETURN NULL;
  END IF;
  EXECUTE format('CREATE TABLE traceflow_parts.%I (LIKE %s INCLUDING ALL)', leaf, parent);
  EXECUTE format('ALTER TABLE traceflow_parts.%I ENABLE ROW LEVEL SECURITY', leaf);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION traceflow_parts.%I FOR VALUES FROM (%L) TO (%L)',
                 parent, leaf, d || suffix, (d + 1) || suffix);
  RETURN true;
END $$;

-- One look at the catalog instead of 400.
CREATE OR REPLACE FUNCTION traceflow_parts.days_ahead(parent REGCLASS) RETURNS INTEGER
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT coalesce(min(n), 401) - 1
  FROM generate_series(1, 400) AS n,
    (SELECT traceflow_parts.today() AS today, relname FROM pg_catalog.pg_class WHERE oid = parent) AS base
  WHERE base.relname || to_char(base.today + n, '"_"YYYYMMDD') NOT IN (
    SELECT c.relname FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent AND NOT i.inhdetachpending
  )
$$;

-- The rrweb array of a session whose chunks lie within some days, put together as in 0009: in PL/pgSQL, which plans each
-- call for its days and so leaves the others out before it looks at them.
CREATE FUNCTION public.session_recording_events(wanted_session TEXT, first_day DATE, last_day DATE) RETURNS JSONB
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' SET plan_cache_mode = force_custom_plan AS $$
DECLARE
  chunks bigint;
  compressed boolean;
  raw_size bigint;
  whole jsonb := (SELECT r.events FROM public.session_recordings AS r WHERE r.session_id = wanted_session);
BEGIN
  SELECT count(*), bool_or(k.codec <> 'json'), sum(k.raw_size_bytes::bigint) INTO chunks, compressed, raw_size
  FROM public.session_recording_chunks AS k
  WHERE k.session_id = wanted_session AND k.chunk_day BETWEEN first_day AND last_day;
  IF whole IS NULL OR whole <> '[]' OR chunks = 0 THEN
    RETURN whole;
  ELSIF compressed OR raw_size > 200000000 THEN
    RETURN NULL;
  END IF;
  RETURN (
    SELECT ('[' || coalesce(string_agg(nullif(btrim(substr(x.body, 2, length(x.body) - 2), E' \n\r\t'), ''), ','
                                       ORDER BY x.window_id, x.seq), '') || ']')::jsonb
    FROM (
      SELECT DISTINCT ON (k.window_id, k.seq) k.window_id, k.seq, btrim(k.events::text, E' \n\r\t') AS body
      FROM public.session_recording_chunks AS k
      WHERE k.session_id = wanted_session AND k.chunk_day BETWEEN first_day AND last_day
      ORDER BY k.window_id, k.seq, k.chunk_day
    ) AS x
  );
END $$;
COMMENT ON FUNCTION public.session_recording_events(TEXT, DATE, DATE) IS 'The same from the chunks of these UTC days alone, both included: much less work where there are hundreds of days.';
COMMENT ON FUNCTION traceflow_parts.today() IS 'The day that it is in UTC: what partitions and retention go by.';
COMMENT ON FUNCTION traceflow_parts.kept_since(REGCLASS) IS 'The first day that is kept of a table, by traceflow_retention; NULL: all are.';
COMMENT ON FUNCTION traceflow_parts.has_leaf(REGCLASS, TEXT) IS 'Whether the parent has this partition, and is not about to lose it.';
COMMENT ON FUNCTION traceflow_parts.ensure_day(REGCLASS, DATE) IS 'Make the partition of a UTC day if it is missing; true if it made one, NULL if the day is kept no longer.';
REVOKE ALL ON FUNCTION traceflow_parts.today(), traceflow_parts.kept_since(REGCLASS) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION traceflow_parts.today(), traceflow_parts.kept_since(REGCLASS) TO traceflow_sink, service_role;
