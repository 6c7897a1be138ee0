-- Bounds: on what a wrong clock may do to what is kept, on the types that hours are counted by, on what erasing costs.

-- Retention counts back from a day that follows the clock only as fast as days pass. A clock that leaps (a server that
-- starts with a wrong one, a time source that is wrong) would else let all that is stored expire within an hour. Seven
-- days: the log keeps no longer, so sinks that stood still for less catch up by themselves.
ALTER TABLE public.traceflow_retention ADD COLUMN counted_from DATE NOT NULL DEFAULT traceflow_parts.today();
COMMENT ON COLUMN public.traceflow_retention.counted_from IS 'The day from which days are counted back, UTC: today, as far as the clock is believed. It follows by at most 7 days at once; a longer leap is for a person to confirm: traceflow partitions prune --today.';
COMMENT ON TABLE public.traceflow_retention IS 'How many days before counted_from (today, UTC) stay: one row. The sinks drop what is older, hourly; NULL: kept for ever. Changed by: traceflow partitions keep.';
COMMENT ON COLUMN public.traceflow_retention.updated_at IS 'When it was last changed how long something is kept.';

CREATE OR REPLACE FUNCTION traceflow_parts.kept_since(relation REGCLASS) RETURNS DATE
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT counted_from - CASE relation
    WHEN 'public.traceflow_events'::regclass THEN events_days
    WHEN 'public.session_recording_chunks'::regclass THEN recordings_days
    WHEN 'public.session_recordings'::regclass THEN recordings_days
    WHEN 'public.traceflow_sessions'::regclass THEN sessions_days
  END
  FROM public.traceflow_retention
$$;

CREATE FUNCTION traceflow_parts.believed_until() RETURNS DATE LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT counted_from + 7 FROM public.traceflow_retention
$$;

-- Never back: what a clock that was ahead let go is not kept again by making its days anew.
CREATE FUNCTION traceflow_parts.follow_clock() RETURNS VOID
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
  UPDATE public.traceflow_retention SET counted_from = traceflow_parts.today()
  WHERE counted_from < traceflow_parts.today() AND traceflow_parts.today() <= traceflow_parts.believed_until()
$$;

COMMENT ON FUNCTION traceflow_parts.believed_until() IS 'The last day that retention believes the clock: a week after traceflow_retention.counted_from.';
COMMENT ON FUNCTION traceflow_parts.follow_clock() IS 'Let retention count from today, unless the clock leapt by more than a week.';
REVOKE ALL ON FUNCTION traceflow_parts.believed_until(), traceflow_parts.follow_clock() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION traceflow_parts.believed_until(), traceflow_parts.follow_clock() TO traceflow_sink, service_role;

-- A day that passes is no change to tell of; a leap that somebody confirmed is.
DROP TRIGGER update_traceflow_retention_timestamp ON public.traceflow_retention;
CREATE TRIGGER update_traceflow_retention_timestamp
  BEFORE UPDATE OF events_days, recordings_days, sessions_days ON public.traceflow_retention
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
DROP TRIGGER write_traceflow_audit_log_of_days ON public.traceflow_retention;
CREATE TRIGGER write_traceflow_audit_log_of_days AFTER UPDATE ON public.traceflow_retention
  FOR EACH ROW WHEN (
    (OLD.events_days, OLD.recordings_days, OLD.sessions_days)
    IS DISTINCT FROM (NEW.events_days, NEW.recordings_days, NEW.sessions_days)
    OR NEW.counted_from > OLD.counted_from + 7
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');

-- Events by the hour have rows for the types that TraceFlow knows, and one for all that clients make up: who makes up a
-- type an event would else make as many rows as events, for ever. A rule of the type alone, so whoever subtracts later
-- finds the row that was added to. What was counted under names of its own before, and what sinks of the version before
-- still count so, is added up under the same name by whoever reads.
CREATE FUNCTION public.traceflow_counted_type(event_type TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN event_type IN ('click', 'scroll', 'error', 'pageview', 'input', 'form_submit', 'web_vital', 'dom_change', 'network',
                      'visibility', 'page_leave', 'custom')
    OR public.traceflow_finding_weight(event_type) IS NOT NULL THEN event_type
  ELSE '(other)'
END;
COMMENT ON FUNCTION public.traceflow_counted_type(TEXT) IS 'How traceflow_event_hours calls an event_type: by its name if TraceFlow knows it, findings included; (other) what clients made up.';

CREATE OR REPLACE VIEW public.traceflow_event_hours WITH (security_invoker = true) AS
SELECT c.project_id, c.hour, public.traceflow_counted_type(c.event_type) AS event_type, sum(c.events)::bigint AS events
FROM public.traceflow_event_hour_counts AS c
GROUP BY c.project_id, c.hour, public.traceflow_counted_type(c.event_type)
HAVING sum(c.events) <> 0;
COMMENT ON COLUMN public.traceflow_event_hours.event_type IS 'traceflow_events.event_type: pageview, click, error … and the findings: rage_click, dead_click …; (other): all types that clients made up together.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.event_type IS 'traceflow_counted_type() of traceflow_events.event_type; findings are rows there too.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.hour IS 'Begin of the hour, UTC. Kept for ever: a year of a project has at most some 20 rows an hour and writer.';

CREATE OR REPLACE FUNCTION public.traceflow_event_hour_differences(
  since TIMESTAMPTZ DEFAULT '-infinity', until TIMESTAMPTZ DEFAULT 'infinity'
) RETURNS TABLE (project_id UUID, hour TIMESTAMPTZ, event_type TEXT, counted BIGINT, stored BIGINT)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT e.project_id, e.hour, e.event_type, sum(e.counted)::bigint AS counted, sum(e.stored)::bigint AS stored
  FROM (
    SELECT c.project_id, c.hour, public.traceflow_counted_type(c.event_type) AS event_type, c.events AS counted, 0 AS stored
    FROM public.traceflow_event_hour_counts AS c
    WHERE c.hour >= date_trunc('hour', since, 'UTC') AND c.hour < until
      AND (c.hour AT TIME ZONE 'UTC')::date IN (
        SELECT to_date(right(leaf.relname::text, 8), 'YYYYMMDD')
        FROM pg_inherits AS i JOIN pg_class AS leaf ON leaf.oid = i.inhrelid
        WHERE i.inhparent = 'public.traceflow_events'::regclass AND NOT i.inhdetachpending
      )
    UNION ALL
    SELECT r.project_id, date_trunc('hour', r."timestamp", 'UTC'), public.traceflow_counted_type(r.event_type), 0, count(*)
    FROM public.traceflow_events AS r
    WHERE r."timestamp" >= date_trunc('hour', since, 'UTC')
      AND r."timestamp" < date_trunc('hour', until + '1 hour - 1 microsecond'::interval, 'UTC')
    GROUP BY 1, 2, 3
  ) AS e
  GROUP BY e.project_id, e.hour, e.event_type
  HAVING sum(e.counted) <> sum(e.stored);
END;
CREATE OR REPLACE FUNCTION public.update_traceflow_session_stats() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
  found_kind jsonb := CASE WHEN public.traceflow_finding_weight(NEW.event_type) IS NULL THEN '{}'
                           ELSE jsonb_build_object(NEW.event_type, 1) END;
  owning_project uuid;
BEGIN
  UPDATE public.traceflow_sessions
  SET
    event_count = coalesce(event_count, 0) + 1,
    rage_click_count = coalesce(rage_click_count, 0) + (NEW.event_type = 'rage_click')::integer,
    dead_click_count = coalesce(dead_click_count, 0) + (NEW.event_type = 'dead_click')::integer,
    error_count = coalesce(error_count, 0) + (NEW.event_type = 'error')::integer,
    finding_counts = public.traceflow_add_counts(finding_counts, found_kind),
    frustration_score = public.traceflow_frustration_score(public.traceflow_add_counts(finding_counts, found_kind)),
    updated_at = now()
  WHERE session_id = NEW.session_id
  RETURNING project_id INTO owning_project;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'session % of the event does not exist', quote_literal(NEW.session_id)
      USING ERRCODE = 'foreign_key_violation', HINT = 'Insert the row of traceflow_sessions first.';
  END IF;
  INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
  VALUES (coalesce(NEW.project_id, owning_project), date_trunc('hour', NEW."timestamp", 'UTC'),
          public.traceflow_counted_type(NEW.event_type), '', hashtext(NEW.session_id) & 63, 1)
  ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + 1;
  IF NEW.project_id IS NULL AND owning_project IS NOT NULL THEN
    UPDATE public.traceflow_events SET project_id = owning_project
    WHERE id = NEW.id AND "timestamp" = NEW."timestamp";
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION public.uncount_traceflow_events() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
  SELECT g.project_id, date_trunc('hour', g."timestamp", 'UTC') AS hour, public.traceflow_counted_type(g.event_type) AS counted_type,
    '', 0, -count(*)
  FROM gone AS g
  WHERE g.project_id IS NULL OR EXISTS (SELECT FROM public.traceflow_projects AS p WHERE p.id = g.project_id)
  GROUP BY g.project_id, hour, counted_type
  ORDER BY g.project_id, hour, counted_type
  ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + excluded.events;
  RETURN NULL;
END $$;

-- Erasure as before, but for the days' tables it joins the ids: for = ANY the planner weighs each id against the statistics
-- of each day, 4.4 s for 10,000 ids and 400 days, where the join is planned in 50 ms.
CREATE OR REPLACE FUNCTION public.remove_traceflow_events(project UUID, sessions TEXT[]) RETURNS BIGINT
LANGUAGE sql SET search_path = '' AS $$
  WITH gone AS (
    DELETE FROM public.traceflow_events WHERE session_id IN (SELECT unnest(sessions)) AND project_id = project RETURNING 1
  )
  SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION public.remove_traceflow_sessions(project UUID, sessions TEXT[], erasure BYTEA) RETURNS JSONB
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  blocked text[];
  gone_rows jsonb;
BEGIN
  SELECT coalesce(array_agg(wanted.session_id), '{}') INTO blocked
  FROM unnest(sessions) AS wanted(session_id)
  JOIN public.traceflow_erasures AS listed
    ON listed.id_hash = public.traceflow_erasure_hash(project, 'session', wanted.session_id);
  gone_rows := public.remove_traceflow_findings(project, blocked);
  gone_rows := gone_rows || jsonb_build_object('traceflow_events', public.remove_traceflow_events(project, blocked));
  WITH gone AS (
    DELETE FROM public.session_recording_chunks
    WHERE session_id IN (SELECT unnest(blocked)) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('session_recording_chunks', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.session_recordings WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('session_recordings', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.traceflow_ai_queue WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('traceflow_ai_queue', count(*)) INTO gone_rows FROM gone;
  -- what a call cost stays, whom it was about does not
  WITH gone AS (
    UPDATE public.neurorouter_logs SET session_id = NULL, error_message = NULL
    WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('neurorouter_logs', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.traceflow_sessions WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('traceflow_sessions', count(*)) INTO gone_rows FROM gone;
  UPDATE public.traceflow_erasures AS counted SET removed = public.traceflow_add_counts(counted.removed, gone_rows)
  WHERE counted.id_hash = erasure;
  RETURN gone_rows;
END $$;
