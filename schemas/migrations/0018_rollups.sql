-- Events by the hour: how many rows of traceflow_events each project has an hour and event_type, kept exact by whoever
-- inserts or deletes rows, in the same transaction. "Page views, errors, rage clicks a day" of a year then read some
-- thousand rows and no event; and the answer outlives the events, whose days are dropped.

-- 1. The counts. One row for each writer: two sinks, or two partitions of one, never wait for each other, and readers add
-- them up. The key is UNIQUE and no PRIMARY KEY because an event inserted by hand may have no project.
CREATE TABLE public.traceflow_event_hour_counts (
  project_id UUID REFERENCES public.traceflow_projects(id) ON DELETE CASCADE,
  hour TIMESTAMPTZ NOT NULL CHECK (date_trunc('hour', hour, 'UTC') = hour),
  event_type TEXT NOT NULL,
  sink TEXT NOT NULL,
  part INTEGER NOT NULL,
  events BIGINT NOT NULL,
  UNIQUE NULLS NOT DISTINCT (project_id, hour, event_type, sink, part)
-- the rows of the present hour change with every batch, and no index holds what changes: room for HOT updates
) WITH (fillfactor = 70);
-- Hours come in order, so a few bytes a block range tell which blocks hold the last week of all projects.
CREATE INDEX idx_event_hour_counts_hour ON public.traceflow_event_hour_counts
  USING brin (hour, ((hour AT TIME ZONE 'UTC')::date)) WITH (pages_per_range = 32, autosummarize = on);

COMMENT ON TABLE public.traceflow_event_hour_counts IS 'Rows of traceflow_events by project, UTC hour and event_type, in parts, one for each writer: read traceflow_event_hours, which adds them up.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.project_id IS 'The project; NULL for events that were inserted by hand without one.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.hour IS 'Begin of the hour, UTC.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.event_type IS 'traceflow_events.event_type; findings are rows there too.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.sink IS 'Who inserted the rows: events | signals | recount (a correction) | empty for what did not come through a sink.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.part IS 'Partition of the sink''s topic, -1 for a command; of what did not come through a sink a share of the sessions.';
COMMENT ON COLUMN public.traceflow_event_hour_counts.events IS 'Rows inserted less rows deleted; one part may be below 0, their sum never is.';

-- 2. What is read.
CREATE VIEW public.traceflow_event_hours WITH (security_invoker = true) AS
SELECT c.project_id, c.hour, c.event_type, sum(c.events)::bigint AS events
FROM public.traceflow_event_hour_counts AS c
GROUP BY c.project_id, c.hour, c.event_type
HAVING sum(c.events) <> 0;
COMMENT ON VIEW public.traceflow_event_hours IS 'How many rows of traceflow_events each hour (UTC) and event_type has, findings included: exact at every moment, and kept when the events themselves are dropped. Read it for trends instead of counting events.';
COMMENT ON COLUMN public.traceflow_event_hours.project_id IS 'The project.';
COMMENT ON COLUMN public.traceflow_event_hours.hour IS 'Begin of the hour, UTC.';
COMMENT ON COLUMN public.traceflow_event_hours.event_type IS 'traceflow_events.event_type: pageview, click, error … and the findings: rage_click, dead_click …';
COMMENT ON COLUMN public.traceflow_event_hours.events IS 'Rows of that type whose "timestamp" lies in the hour.';

CREATE VIEW public.traceflow_traffic_by_hour WITH (security_invoker = true) AS
SELECT
  c.project_id,
  c.hour,
  sum(c.events)::bigint AS events,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'pageview'), 0)::bigint AS page_views,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'click'), 0)::bigint AS clicks,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'error'), 0)::bigint AS errors,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'rage_click'), 0)::bigint AS rage_clicks,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'dead_click'), 0)::bigint AS dead_clicks,
  coalesce(sum(c.events) FILTER (WHERE public.traceflow_finding_weight(c.event_type) IS NOT NULL), 0)::bigint AS findings,
  round(1000 * coalesce(sum(c.events) FILTER (WHERE public.traceflow_finding_weight(c.event_type) IS NOT NULL), 0)
    / nullif(sum(c.events), 0), 1) AS findings_per_1000
FROM public.traceflow_event_hour_counts AS c
GROUP BY c.project_id, c.hour
HAVING sum(c.events) <> 0;
COMMENT ON VIEW public.traceflow_traffic_by_hour IS 'What happened each hour (UTC), and how much of it hurt. Read from counts that are kept when events are dropped: a year takes no longer than its hours.';
COMMENT ON COLUMN public.traceflow_traffic_by_hour.project_id IS 'The project.';
COMMENT ON COLUMN public.traceflow_traffic_by_hour.hour IS 'Begin of the hour, UTC.';

CREATE VIEW public.traceflow_traffic_by_day WITH (security_invoker = true) AS
SELECT
  c.project_id,
  (c.hour AT TIME ZONE 'UTC')::date AS day,
  sum(c.events)::bigint AS events,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'pageview'), 0)::bigint AS page_views,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'click'), 0)::bigint AS clicks,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'error'), 0)::bigint AS errors,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'rage_click'), 0)::bigint AS rage_clicks,
  coalesce(sum(c.events) FILTER (WHERE c.event_type = 'dead_click'), 0)::bigint AS dead_clicks,
  coalesce(sum(c.events) FILTER (WHERE public.traceflow_finding_weight(c.event_type) IS NOT NULL), 0)::bigint AS findings,
  round(1000 * coalesce(sum(c.events) FILTER (WHERE public.traceflow_finding_weight(c.event_type) IS NOT NULL), 0)
    / nullif(sum(c.events), 0), 1) AS findings_per_1000
FROM public.traceflow_event_hour_counts AS c
GROUP BY c.project_id, day
HAVING sum(c.events) <> 0;
COMMENT ON VIEW public.traceflow_traffic_by_day IS 'As traceflow_traffic_by_hour, by UTC day.';
COMMENT ON COLUMN public.traceflow_traffic_by_day.project_id IS 'The project.';
COMMENT ON COLUMN public.traceflow_traffic_by_day.day IS 'UTC day.';

DO $$
DECLARE
  view text;
BEGIN
  FOREACH view IN ARRAY ARRAY['traceflow_traffic_by_hour', 'traceflow_traffic_by_day'] LOOP
    EXECUTE format('COMMENT ON COLUMN public.%I.events IS %L', view, 'Rows of traceflow_events, findings included.');
    EXECUTE format('COMMENT ON COLUMN public.%I.page_views IS %L', view, 'Page views that an SDK reported; what is only recorded has none.');
    EXECUTE format('COMMENT ON COLUMN public.%I.clicks IS %L', view, 'Clicks that an SDK reported; what is only recorded has none.');
    EXECUTE format('COMMENT ON COLUMN public.%I.errors IS %L', view, 'Errors, reported or found in a recording.');
    EXECUTE format('COMMENT ON COLUMN public.%I.rage_clicks IS %L', view, 'Rage clicks.');
    EXECUTE format('COMMENT ON COLUMN public.%I.dead_clicks IS %L', view, 'Dead clicks.');
    EXECUTE format('COMMENT ON COLUMN public.%I.findings IS %L', view, 'Findings of all kinds, errors included.');
    EXECUTE format('COMMENT ON COLUMN public.%I.findings_per_1000 IS %L', view, 'Findings in 1,000 events. Over several rows: 1000 * sum(findings) / sum(events).');
  END LOOP;
END $$;

-- 3. Who may read and write.
ALTER TABLE public.traceflow_event_hour_counts ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.traceflow_event_hour_counts FROM PUBLIC, anon, authenticated;
GRANT ALL ON public.traceflow_event_hour_counts TO service_role;
GRANT SELECT, INSERT, UPDATE ON public.traceflow_event_hour_counts TO traceflow_sink;
GRANT SELECT ON public.traceflow_event_hour_counts TO authenticated, traceflow_analyst;
CREATE POLICY "Project members can view" ON public.traceflow_event_hour_counts
  FOR SELECT USING (project_id = ANY ((SELECT public.traceflow_my_projects())::uuid[]));
CREATE POLICY "Analysts can view" ON public.traceflow_event_hour_counts
  FOR SELECT TO traceflow_analyst USING (true);
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['traceflow_event_hours', 'traceflow_traffic_by_hour', 'traceflow_traffic_by_day'] LOOP
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated, service_role', name);
    EXECUTE format('GRANT SELECT ON public.%I TO authenticated, service_role, traceflow_analyst', name);
  END LOOP;
END $$;

-- 4. What the counts should be. Both are one statement, whose snapshot has a transaction's rows and its counts or neither:
-- nobody has to stand still for them.
CREATE FUNCTION public.traceflow_event_hour_differences(
  since TIMESTAMPTZ DEFAULT '-infinity', until TIMESTAMPTZ DEFAULT 'infinity'
) RETURNS TABLE (project_id UUID, hour TIMESTAMPTZ, event_type TEXT, counted BIGINT, stored BIGINT)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT e.project_id, e.hour, e.event_type, sum(e.counted)::bigint AS counted, sum(e.stored)::bigint AS stored
  FROM (
    SELECT c.project_id, c.hour, c.event_type, c.events AS counted, 0 AS stored
    FROM public.traceflow_event_hour_counts AS c
    WHERE c.hour >= date_trunc('hour', since, 'UTC') AND c.hour < until
      AND (c.hour AT TIME ZONE 'UTC')::date IN (
        SELECT to_date(right(leaf.relname::text, 8), 'YYYYMMDD')
        FROM pg_inherits AS i JOIN pg_class AS leaf ON leaf.oid = i.inhrelid
        WHERE i.inhparent = 'public.traceflow_events'::regclass AND NOT i.inhdetachpending
      )
    UNION ALL
    SELECT r.project_id, date_trunc('hour', r."timestamp", 'UTC'), r.event_type, 0, count(*)
    FROM public.traceflow_events AS r
    WHERE r."timestamp" >= date_trunc('hour', since, 'UTC')
      AND r."timestamp" < date_trunc('hour', until + '1 hour - 1 microsecond'::interval, 'UTC')
    GROUP BY 1, 2, 3
  ) AS e
  GROUP BY e.project_id, e.hour, e.event_type
  HAVING sum(e.counted) <> sum(e.stored);
END;
COMMENT ON FUNCTION public.traceflow_event_hour_differences(TIMESTAMPTZ, TIMESTAMPTZ) IS 'Hours in which traceflow_event_hours differs from count(*) of traceflow_events; of days that are dropped it says nothing. Whole hours, since included, until not.';

CREATE FUNCTION public.recount_traceflow_event_hours(
  since TIMESTAMPTZ DEFAULT '-infinity', until TIMESTAMPTZ DEFAULT 'infinity'
) RETURNS BIGINT
LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
  mended bigint;
BEGIN
  -- two that saw the same difference would both add it
  PERFORM pg_advisory_xact_lock(hashtext('traceflow_event_hour_counts'));
  INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
  SELECT d.project_id, d.hour, d.event_type, 'recount', -1, d.stored - d.counted
  FROM public.traceflow_event_hour_differences(since, until) AS d
  WHERE d.project_id IS NULL OR EXISTS (SELECT FROM public.traceflow_projects AS p WHERE p.id = d.project_id)
  ORDER BY d.project_id, d.hour, d.event_type
  ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + excluded.events;
  GET DIAGNOSTICS mended = ROW_COUNT;
  RETURN mended;
END $$;
COMMENT ON FUNCTION public.recount_traceflow_event_hours(TIMESTAMPTZ, TIMESTAMPTZ) IS 'Make traceflow_event_hours what the rows of traceflow_events say, while sinks go on; returns how many counts it mended. For the owner, where rows came or went beside the sinks: by TRUNCATE, with triggers off, or by sinks of a version before these counts.';
REVOKE ALL ON FUNCTION public.traceflow_event_hour_differences(TIMESTAMPTZ, TIMESTAMPTZ),
  public.recount_traceflow_event_hours(TIMESTAMPTZ, TIMESTAMPTZ) FROM PUBLIC, anon, authenticated;
GRANT EXECUTE ON FUNCTION public.traceflow_event_hour_differences(TIMESTAMPTZ, TIMESTAMPTZ),
  public.recount_traceflow_event_hours(TIMESTAMPTZ, TIMESTAMPTZ) TO traceflow_sink, service_role;

-- What is there already. Before the trigger below, which lets nobody insert from its creation to the end of this file.
SELECT public.recount_traceflow_event_hours();

-- 5. Plain INSERTs count here as well, in 64 parts: two that insert for different sessions hardly ever meet, and many rows
-- of one statement do not all make new versions of one row.
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
  VALUES (coalesce(NEW.project_id, owning_project), date_trunc('hour', NEW."timestamp", 'UTC'), NEW.event_type, '',
          hashtext(NEW.session_id) & 63, 1)
  ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + 1;
  IF NEW.project_id IS NULL AND owning_project IS NOT NULL THEN
    UPDATE public.traceflow_events SET project_id = owning_project
    WHERE id = NEW.id AND "timestamp" = NEW."timestamp";
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION public.update_traceflow_session_stats() IS 'Trigger: keep counters, finding_counts and score of the session, and the events of the hour, for a plain INSERT of an event; the sinks keep them themselves.';

-- Rows that are deleted count no more; whole days go by DROP, which fires nothing, and stay counted. Once a statement, so
-- it costs an INSERT nothing. A project that is gone took its counts along.
CREATE FUNCTION public.uncount_traceflow_events() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
  SELECT g.project_id, date_trunc('hour', g."timestamp", 'UTC') AS hour, g.event_type, '', 0, -count(*)
  FROM gone AS g
  WHERE g.project_id IS NULL OR EXISTS (SELECT FROM public.traceflow_projects AS p WHERE p.id = g.project_id)
  GROUP BY g.project_id, hour, g.event_type
  ORDER BY g.project_id, hour, g.event_type
  ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + excluded.events;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION public.uncount_traceflow_events() IS 'Trigger: take deleted events off traceflow_event_hours.';
REVOKE ALL ON FUNCTION public.uncount_traceflow_events() FROM PUBLIC, anon, authenticated;
CREATE TRIGGER uncount_traceflow_events AFTER DELETE ON public.traceflow_events
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.uncount_traceflow_events();

-- 6. Pages as people name them, as before at a third of the CPU: one short expression instead of two long ones.
CREATE OR REPLACE FUNCTION public.traceflow_page_path(url TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN url IS NOT NULL THEN
  coalesce(nullif(regexp_replace(split_part(split_part(url, '?', 1), '#', 1),
                                 '^([A-Za-z][A-Za-z0-9+.-]*:)?(//[^/]*)?', ''), ''), '/')
  || CASE WHEN strpos(url, '#') > 0 THEN coalesce('#' || substring(url FROM '#!?(/[^?]*)'), '') ELSE '' END END;

-- 7. From click to response by element: one pass over clicks and answers in order, where the view
-- traceflow_click_responses looks up each click's answer (9 us a click instead of 13, most of it for sorting; an index
-- that has them in order would cost every INSERT). Backwards in time, the smallest time so far is the next one.
CREATE FUNCTION public.traceflow_response_times(
  since TIMESTAMPTZ DEFAULT now() - '7 days'::interval, until TIMESTAMPTZ DEFAULT now(), project UUID DEFAULT NULL
) RETURNS TABLE (page TEXT, element TEXT, clicks BIGINT, answered BIGINT, median_ms INTEGER, p95_ms INTEGER)
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH followed AS (
    SELECT
      e.event_type, e."timestamp", e.page_url, coalesce(e.element_selector, e.element_id, e.element_tag) AS element,
      min(e."timestamp") FILTER (WHERE e.event_type <> 'click') OVER from_here AS answer_at,
      min(e."timestamp") FILTER (WHERE e.event_type = 'click') OVER after_here AS next_click_at
    FROM public.traceflow_events AS e
    WHERE e."timestamp" >= since AND e."timestamp" < until + '10 s'::interval
      AND (project IS NULL OR e.project_id = project)
      AND (e.event_type IN ('dom_change', 'network', 'pageview', 'visibility', 'custom')
           OR e.event_type = 'click' AND coalesce(e.event_name, '') NOT IN ('dblclick', 'contextmenu', 'auxclick'))
    WINDOW
      from_here AS (PARTITION BY e.session_id ORDER BY e."timestamp" DESC),
      after_here AS (PARTITION BY e.session_id ORDER BY e."timestamp" DESC
                     RANGE BETWEEN UNBOUNDED PRECEDING AND '1 microsecond' PRECEDING)
  ),
  waited AS (
    SELECT
      public.traceflow_page_path(f.page_url) AS page,
      f.element,
      CASE WHEN f.answer_at <= f."timestamp" + '10 s'::interval
            AND (f.next_click_at IS NULL OR f.answer_at <= f.next_click_at)
        THEN round(extract(epoch FROM f.answer_at - f."timestamp") * 1000)::integer END AS response_ms
    FROM followed AS f WHERE f.event_type = 'click' AND f."timestamp" < until
  )
  SELECT w.page, w.element, count(*), count(w.response_ms),
    percentile_disc(0.5) WITHIN GROUP (ORDER BY w.response_ms),
    percentile_disc(0.95) WITHIN GROUP (ORDER BY w.response_ms)
  FROM waited AS w GROUP BY w.page, w.element;
END;
COMMENT ON FUNCTION public.traceflow_response_times(TIMESTAMPTZ, TIMESTAMPTZ, UUID) IS 'How long clicks waited for an answer, by page (its path) and element, as an SDK reports both: how many clicks, how many of them were answered within 10 s and before the next click, and the median and 95th percentile of their waits, ms. Single clicks: traceflow_click_responses.';
COMMENT ON VIEW public.traceflow_click_responses IS 'How long each click waited for an answer. Name a session_id or a range of "timestamp"; by element ask traceflow_response_times. A recording tells only of answers that came after the deadline of a dead click.';
