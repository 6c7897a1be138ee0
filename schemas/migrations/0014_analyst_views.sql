-- Views and functions for the questions of an analyst's day, one line each. All ask with the rights of who reads, so the
-- policies of the tables hold. What lies in events says so by a column "timestamp": a range of it reads those days alone.

-- 1. Pages as people name them.
CREATE FUNCTION public.traceflow_page_path(url TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN url IS NOT NULL THEN
  coalesce(nullif(substring(url FROM '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)'), ''), '/')
  || coalesce('#' || substring(url FROM '#!?(/[^?]*)'), '') END;
COMMENT ON FUNCTION public.traceflow_page_path(TEXT) IS 'Path of a URL, without scheme, host and query; a fragment that is a route (#/orders) stays.';

-- 2. Sessions: score and top finding, and now the release.
CREATE OR REPLACE VIEW public.traceflow_session_overview WITH (security_invoker = true) AS
SELECT
  s.session_id,
  s.project_id,
  s.visitor_id,
  s.started_at,
  s.ended_at,
  s.duration_ms,
  s.closed,
  s.frustration_score,
  top.kind AS top_finding,
  top.n AS top_finding_count,
  coalesce(top.findings, 0) AS finding_count,
  s.finding_counts,
  s.event_count,
  s.page_count,
  s.landing_page,
  s.referrer,
  s.device_type,
  s.browser,
  s.os,
  s.country_code,
  s.city,
  s.is_bot,
  s.ai_analyzed,
  s.ai_summary,
  s.ai_root_cause,
  s.custom_properties ->> 'release' AS release
FROM public.traceflow_sessions AS s
LEFT JOIN LATERAL (
  SELECT kind, n::integer AS n, sum(n::integer) OVER () AS findings
  FROM jsonb_each_text(s.finding_counts) AS f(kind, n)
  WHERE n::integer > 0
  ORDER BY public.traceflow_finding_weight(kind) * n::integer DESC NULLS LAST, kind
  LIMIT 1
) AS top ON true;

-- A finding has the time of what set it off, and comes after it.
CREATE OR REPLACE VIEW public.traceflow_session_timeline WITH (security_invoker = true) AS
SELECT
  e.session_id,
  e.project_id,
  e."timestamp",
  e."timestamp" - s.started_at AS since_start,
  public.traceflow_finding_weight(e.event_type) IS NOT NULL AS is_finding,
  e.event_type,
  e.event_name,
  e.page_url,
  coalesce(e.element_selector, e.element_id, e.element_tag) AS element,
  e.element_text,
  e.error_message,
  e.metadata,
  e.id AS event_id
FROM public.traceflow_events AS e
LEFT JOIN public.traceflow_sessions AS s ON s.session_id = e.session_id
ORDER BY e.session_id, e."timestamp", public.traceflow_finding_weight(e.event_type) IS NOT NULL, e.id;

-- 3. Frustration by what sessions have in common. Bots are left out: they click what people do not.
CREATE VIEW public.traceflow_frustration_by WITH (security_invoker = true) AS
SELECT
  s.project_id,
  (s.started_at AT TIME ZONE 'UTC')::date AS day,
  d.dimension,
  d.value,
  count(*) AS sessions,
  count(*) FILTER (WHERE s.frustration_score > 0) AS frustrated_sessions,
  round(avg(s.frustration_score), 1) AS mean_score,
  sum(s.frustration_score) AS score_sum,
  sum(s.rage_click_count) AS rage_clicks,
  sum(s.dead_click_count) AS dead_clicks,
  sum(s.error_count) AS errors
FROM public.traceflow_sessions AS s
CROSS JOIN LATERAL (VALUES
  ('browser', s.browser),
  ('os', s.os),
  ('device_type', s.device_type),
  ('country', s.country_code),
  ('release', s.custom_properties ->> 'release'),
  ('landing_page', public.traceflow_page_path(s.landing_page))
) AS d(dimension, value)
WHERE NOT s.is_bot
GROUP BY s.project_id, day, d.dimension, d.value;
COMMENT ON VIEW public.traceflow_frustration_by IS 'Frustration by day (UTC, of the session''s start) and by one dimension: name it. Bots are left out. Over several days: sum(score_sum) / sum(sessions).';
COMMENT ON COLUMN public.traceflow_frustration_by.day IS 'UTC day on which the sessions started.';
COMMENT ON COLUMN public.traceflow_frustration_by.dimension IS 'browser | os | device_type | country | release (custom_properties.release, as the SDK''s owner sends it) | landing_page (its path)';
COMMENT ON COLUMN public.traceflow_frustration_by.value IS 'The browser, country, release …; NULL: unknown.';
COMMENT ON COLUMN public.traceflow_frustration_by.sessions IS 'Sessions, bots left out.';
COMMENT ON COLUMN public.traceflow_frustration_by.frustrated_sessions IS 'Those with a score above 0: something was found in them.';
COMMENT ON COLUMN public.traceflow_frustration_by.mean_score IS 'Mean frustration_score of all of them, one decimal.';
COMMENT ON COLUMN public.traceflow_frustration_by.score_sum IS 'Sum of their scores, for means over several rows.';
COMMENT ON COLUMN public.traceflow_frustration_by.rage_clicks IS 'Rage clicks in them.';
COMMENT ON COLUMN public.traceflow_frustration_by.dead_clicks IS 'Dead clicks in them.';
COMMENT ON COLUMN public.traceflow_frustration_by.errors IS 'Errors in them.';

-- 4. Errors by message, over all pages. The message is read from an event of the last finding: one look-up a group.
CREATE VIEW public.traceflow_error_groups WITH (security_invoker = true) AS
SELECT
  g.project_id,
  g.fingerprint,
  sample.error_message,
  g.occurrences,
  (SELECT count(DISTINCT l.session_id) FROM public.traceflow_ux_issue_sessions AS l WHERE l.issue_id = ANY (g.issues))
    AS affected_sessions,
  (SELECT count(DISTINCT l.visitor_id) FROM public.traceflow_ux_issue_visitors AS l WHERE l.issue_id = ANY (g.issues))
    AS affected_users,
  g.pages,
  g.top_page,
  g.severity,
  g.open_issues,
  g.first_detected_at,
  g.last_detected_at,
  sample.session_id AS last_session_id
FROM (
  SELECT
    i.project_id,
    i.fingerprint,
    array_agg(i.id) AS issues,
    sum(i.occurrence_count) AS occurrences,
    count(DISTINCT i.page_url) AS pages,
    (array_agg(i.page_url ORDER BY i.on_page DESC, i.page_url))[1] AS top_page,
    (ARRAY['low', 'medium', 'high', 'critical'])[
      max(array_position(ARRAY['low', 'medium', 'high', 'critical'], i.severity))] AS severity,
    count(*) FILTER (WHERE i.status IN ('open', 'in_progress')) AS open_issues,
    min(i.first_detected_at) AS first_detected_at,
    max(i.last_detected_at) AS last_detected_at
  FROM (
    SELECT x.*, sum(x.occurrence_count) OVER (PARTITION BY x.project_id, x.fingerprint, x.page_url) AS on_page
    FROM public.traceflow_ux_issues AS x WHERE x.issue_type = 'error'
  ) AS i
  GROUP BY i.project_id, i.fingerprint
) AS g
LEFT JOIN LATERAL (
  SELECT f.session_id, e.error_message
  FROM (
    SELECT l.finding_id, l.session_id, l.detected_at FROM public.traceflow_ux_issue_findings AS l
    WHERE l.issue_id = ANY (g.issues) ORDER BY l.detected_at DESC, l.finding_id LIMIT 1
  ) AS f
  LEFT JOIN LATERAL (
    SELECT x.error_message FROM public.traceflow_events AS x
    WHERE x.session_id = f.session_id AND x."timestamp" = f.detected_at AND x.event_type IN ('error', 'error_click')
    ORDER BY x.id = f.finding_id OR x.metadata ->> 'fingerprint' = g.fingerprint DESC NULLS LAST, x.id LIMIT 1
  ) AS e ON true
) AS sample ON true;
COMMENT ON VIEW public.traceflow_error_groups IS 'Errors by what they say, over all pages: one row a fingerprint, clicks that set one off included. ORDER BY affected_users DESC.';
COMMENT ON COLUMN public.traceflow_error_groups.fingerprint IS 'Stands for the message without what varies: numbers, addresses, names of files.';
COMMENT ON COLUMN public.traceflow_error_groups.error_message IS 'What the last one says; NULL once its event is pruned.';
COMMENT ON COLUMN public.traceflow_error_groups.occurrences IS 'Findings of the group.';
COMMENT ON COLUMN public.traceflow_error_groups.affected_sessions IS 'Different sessions that met it.';
COMMENT ON COLUMN public.traceflow_error_groups.affected_users IS 'Different visitors who met it, as far as sessions name theirs.';
COMMENT ON COLUMN public.traceflow_error_groups.pages IS 'Different pages on which it happened.';
COMMENT ON COLUMN public.traceflow_error_groups.top_page IS 'The page on which it happened most.';
COMMENT ON COLUMN public.traceflow_error_groups.severity IS 'The highest of its issues: low | medium | high | critical';
COMMENT ON COLUMN public.traceflow_error_groups.open_issues IS 'Its issues that are open or in progress.';
COMMENT ON COLUMN public.traceflow_error_groups.last_session_id IS 'The session of the last one, to look at.';

-- 5. Abandoned forms, one row a field that was touched.
CREATE VIEW public.traceflow_abandoned_fields WITH (security_invoker = true) AS
SELECT
  e.project_id,
  e."timestamp",
  e.session_id,
  public.traceflow_page_path(e.page_url) AS page,
  e.element_selector AS form,
  f.field,
  (e.metadata ->> 'fields')::integer AS fields_touched,
  (e.metadata ->> 'spent_ms')::bigint AS spent_ms,
  e.id AS finding_id
FROM public.traceflow_events AS e
CROSS JOIN LATERAL jsonb_array_elements_text(
  CASE jsonb_typeof(e.metadata -> 'field_names') WHEN 'array' THEN e.metadata -> 'field_names' ELSE '[]' END
) AS f(field)
WHERE e.event_type = 'form_abandonment';
COMMENT ON VIEW public.traceflow_abandoned_fields IS 'Forms that were begun and not sent, one row a field that was touched in one. Name a range of "timestamp"; count(DISTINCT finding_id) counts forms.';
COMMENT ON COLUMN public.traceflow_abandoned_fields."timestamp" IS 'When a field of the form was touched last.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.page IS 'Path of the form''s page.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.form IS 'The form''s name or selector.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.field IS 'Name of the field. Values are never known.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.fields_touched IS 'How many fields of this form were touched.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.spent_ms IS 'From the first touch of the form to the last, ms.';
COMMENT ON COLUMN public.traceflow_abandoned_fields.finding_id IS 'Id of the finding: one abandoned form.';

-- 6. From click to response. Clicks that an SDK reports, with the first answer that it reports; and those recorded ones
-- whose answer came late enough to be a finding.
CREATE VIEW public.traceflow_click_responses WITH (security_invoker = true) AS
SELECT
  c.project_id,
  c."timestamp",
  c.session_id,
  public.traceflow_page_path(c.page_url) AS page,
  coalesce(c.element_selector, c.element_id, c.element_tag) AS element,
  'event' AS source,
  CASE WHEN next.event_type <> 'click' THEN next.event_type END AS response,
  CASE WHEN next.event_type <> 'click' THEN round(extract(epoch FROM next."timestamp" - c."timestamp") * 1000)::integer
  END AS response_ms,
  c.id AS event_id
FROM public.traceflow_events AS c
LEFT JOIN LATERAL (
  SELECT r.event_type, r."timestamp"
  FROM public.traceflow_events AS r
  WHERE r.session_id = c.session_id
    AND r."timestamp" >= c."timestamp" AND r."timestamp" <= c."timestamp" + '10 s'::interval
    AND (r.event_type IN ('dom_change', 'network', 'pageview', 'visibility', 'custom')
         OR r.event_type = 'click' AND r."timestamp" > c."timestamp"
            AND coalesce(r.event_name, '') NOT IN ('dblclick', 'contextmenu', 'auxclick'))
  ORDER BY r."timestamp", r.event_type = 'click', r.event_type
  LIMIT 1
) AS next ON true
WHERE c.event_type = 'click' AND coalesce(c.event_name, '') NOT IN ('dblclick', 'contextmenu', 'auxclick')
UNION ALL
SELECT
  f.project_id,
  f."timestamp",
  f.session_id,
  public.traceflow_page_path(f.page_url),
  coalesce(f.element_selector, f.element_id, f.element_tag),
  'recording',
  'change',
  (f.metadata ->> 'response_ms')::integer,
  f.id
FROM public.traceflow_events AS f
WHERE f.event_type = 'slow_load' AND jsonb_typeof(f.metadata -> 'response_ms') = 'number';
COMMENT ON VIEW public.traceflow_click_responses IS 'How long each click waited for an answer. Name a range of "timestamp" or a session_id. A recording tells only of answers that came after the deadline of a dead click.';
COMMENT ON COLUMN public.traceflow_click_responses."timestamp" IS 'Time of the click.';
COMMENT ON COLUMN public.traceflow_click_responses.page IS 'Path of the click''s page.';
COMMENT ON COLUMN public.traceflow_click_responses.element IS 'Selector, else id, else tag of the element.';
COMMENT ON COLUMN public.traceflow_click_responses.source IS 'event: click and answer as the SDK reports them | recording: a slow answer that was found in a recording';
COMMENT ON COLUMN public.traceflow_click_responses.response IS 'What answered first: dom_change | network | pageview | visibility | custom, for source event; change, for source recording. NULL: nothing within 10 s and before the next click, which says nothing of an SDK that reports no answers.';
COMMENT ON COLUMN public.traceflow_click_responses.response_ms IS 'From the click to that, ms; NULL with response.';
COMMENT ON COLUMN public.traceflow_click_responses.event_id IS 'Id of the click''s row, or of the finding''s.';

-- 7. Funnel of a path.
CREATE FUNCTION public.traceflow_steps_reached(pages TEXT[], steps TEXT[]) RETURNS INTEGER
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = '' AS $$
DECLARE
  page text;
  reached integer := 0;
BEGIN
  FOREACH page IN ARRAY pages LOOP
    EXIT WHEN reached = cardinality(steps);
    IF page LIKE steps[reached + 1] THEN
      reached := reached + 1;
    END IF;
  END LOOP;
  RETURN reached;
END $$;
COMMENT ON FUNCTION public.traceflow_steps_reached(TEXT[], TEXT[]) IS 'How many of the steps (LIKE patterns) the pages go through, in order; other pages may lie between.';

-- A session is known by its page views; one that was only recorded by pages_visited, which names each page once. BEGIN
-- ATOMIC: the planner puts such a function into the query, and its range of time leaves days out.
CREATE FUNCTION public.traceflow_funnel(
  steps TEXT[], since TIMESTAMPTZ DEFAULT now() - '7 days'::interval, until TIMESTAMPTZ DEFAULT now(),
  project UUID DEFAULT NULL
) RETURNS TABLE (step INTEGER, page TEXT, sessions BIGINT, of_first NUMERIC, of_previous NUMERIC)
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH viewed AS (
    SELECT e.session_id, array_agg(public.traceflow_page_path(e.page_url) ORDER BY e."timestamp", e.id) AS pages
    FROM public.traceflow_events AS e
    WHERE e.event_type = 'pageview' AND e."timestamp" >= since AND e."timestamp" < until
      AND (project IS NULL OR e.project_id = project)
    GROUP BY e.session_id
  ),
  walked AS (
    SELECT coalesce(v.pages, ARRAY(
      SELECT public.traceflow_page_path(p.url)
      FROM jsonb_array_elements_text(s.pages_visited) WITH ORDINALITY AS p(url, place) ORDER BY p.place
    )) AS pages
    FROM public.traceflow_sessions AS s LEFT JOIN viewed AS v ON v.session_id = s.session_id
    WHERE NOT s.is_bot AND (project IS NULL OR s.project_id = project)
      AND (v.session_id IS NOT NULL OR s.started_at >= since AND s.started_at < until)
  ),
  counted AS (
    SELECT public.traceflow_steps_reached(w.pages, steps) AS reached, count(*) AS sessions FROM walked AS w GROUP BY 1
  ),
  added AS (
    SELECT n AS step, steps[n] AS page, coalesce(sum(c.sessions), 0)::bigint AS sessions
    FROM generate_series(1, cardinality(steps)) AS n LEFT JOIN counted AS c ON c.reached >= n
    GROUP BY n
  )
  SELECT a.step, a.page, a.sessions,
    round(a.sessions::numeric / nullif(first_value(a.sessions) OVER (ORDER BY a.step), 0), 3),
    round(a.sessions::numeric / nullif(lag(a.sessions) OVER (ORDER BY a.step), 0), 3)
  FROM added AS a ORDER BY a.step;
END;
COMMENT ON FUNCTION public.traceflow_funnel(TEXT[], TIMESTAMPTZ, TIMESTAMPTZ, UUID) IS 'How many sessions went through the steps in this order, other pages between allowed. A step is a LIKE pattern of a page''s path (traceflow_page_path), such as /product/%. Bots are left out. Answers one row a step: sessions that came so far, as a share of the first step and of the step before.';

-- 8. Who may ask. Functions can be called by everyone who may read what they read.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'traceflow_frustration_by', 'traceflow_error_groups', 'traceflow_abandoned_fields', 'traceflow_click_responses'
  ] LOOP
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated, service_role', name);
    EXECUTE format('GRANT SELECT ON public.%I TO authenticated, service_role, traceflow_analyst', name);
  END LOOP;
END $$;

-- 9. A view's column that is a table's column means the same: where it has no comment of its own it gets the table's.
DO $$
DECLARE
  shown record;
BEGIN
  FOR shown IN
    SELECT v.view, a.attname, col_description(t.attrelid, t.attnum) AS meaning
    FROM (VALUES
      ('session_recordings_full', 'session_recordings'),
      ('traceflow_session_overview', 'traceflow_sessions'),
      ('traceflow_session_timeline', 'traceflow_events'),
      ('traceflow_painful_elements', 'traceflow_ux_issues'),
      ('traceflow_frustration_by', 'traceflow_sessions'),
      ('traceflow_error_groups', 'traceflow_ux_issues'),
      ('traceflow_abandoned_fields', 'traceflow_events'),
      ('traceflow_click_responses', 'traceflow_events')
    ) AS v(view, source)
    JOIN pg_attribute AS a ON a.attrelid = format('public.%I', v.view)::regclass AND a.attnum > 0
    JOIN pg_attribute AS t ON t.attrelid = format('public.%I', v.source)::regclass AND t.attname = a.attname
    WHERE col_description(a.attrelid, a.attnum) IS NULL
  LOOP
    EXECUTE format('COMMENT ON COLUMN public.%I.%I IS %L', shown.view, shown.attname, shown.meaning);
  END LOOP;
END $$;
COMMENT ON COLUMN public.session_recordings_full.events IS 'All rrweb events in order; NULL if a chunk is stored compressed or all exceed 200 MB (then: traceflow recordings export).';
COMMENT ON COLUMN public.traceflow_session_overview.release IS 'custom_properties.release, as the SDK''s owner sends it.';
COMMENT ON COLUMN public.traceflow_session_timeline.event_id IS 'traceflow_events.id';
COMMENT ON COLUMN public.traceflow_painful_elements.rage_clicks IS 'Rage clicks at this element.';
COMMENT ON COLUMN public.traceflow_painful_elements.dead_clicks IS 'Dead clicks at this element.';
COMMENT ON COLUMN public.traceflow_painful_elements.errors IS 'Errors that clicks on this element set off.';
COMMENT ON COLUMN public.traceflow_painful_elements.form_abandonments IS 'How often this form was abandoned.';
COMMENT ON COLUMN public.traceflow_painful_elements.component IS 'The nearest ancestor of the element with a name: where a developer would look.';
COMMENT ON COLUMN public.traceflow_ux_issues.fingerprint IS 'Tells errors of one page apart: stands for the message without what varies; NULL for other types.';
