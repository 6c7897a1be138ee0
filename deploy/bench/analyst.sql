-- What an analyst meets after two weeks of a busy site, made by the server itself, and what is asked of it.

-- ensure_days --
-- Make the partitions.
SELECT traceflow_parts.ensure_days(today - %(days)s::integer, today)
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock;

-- fill_projects --
-- Projects, each with one member, whose id is the project's.
WITH made AS (
  INSERT INTO public.traceflow_projects (name)
  SELECT 'project ' || n FROM generate_series(1, %(projects)s) AS n RETURNING id
), users AS (
  INSERT INTO auth.users (id) SELECT id FROM made RETURNING id
)
SELECT id FROM users ORDER BY id;

-- fill_members --
-- Make each user a member of the own project.
INSERT INTO public.traceflow_project_members (project_id, user_id) SELECT id, id FROM public.traceflow_projects;

-- fill_sessions --
-- Sessions, evenly over the days; every other one has a finding.
INSERT INTO public.traceflow_sessions (
  session_id, project_id, visitor_id, started_at, ended_at, browser, os, device_type, country_code, landing_page,
  pages_visited, custom_properties, event_count, finding_counts, frustration_score, is_bot, closed
)
SELECT
  CASE n WHEN 1 THEN 'first' ELSE 's' || n END,
  p.ids[n %% cardinality(p.ids) + 1],
  'v' || n %% 15000,
  now() - '1 hour'::interval - n * (%(days)s * '1 day'::interval / %(sessions)s),
  now() - '1 hour'::interval - n * (%(days)s * '1 day'::interval / %(sessions)s) + '1 min'::interval,
  (ARRAY['Chrome', 'Firefox', 'Safari', 'Edge', NULL])[n %% 5 + 1],
  (ARRAY['Windows', 'Mac OS X', 'Android'])[n %% 3 + 1],
  (ARRAY['desktop', 'desktop', 'mobile'])[n %% 3 + 1],
  (ARRAY['AT', 'DE', 'FR', 'US', 'BR', 'IN', 'JP', NULL])[n %% 8 + 1],
  'https://shop.example/',
  '["https://shop.example/"]',
  jsonb_build_object('release', '1.' || n / 10000, 'plan', 'pro'),
  20,
  f.counts,
  public.traceflow_frustration_score(f.counts),
  n %% 50 = 0,
  true
FROM generate_series(1, %(sessions)s) AS n
CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM public.traceflow_projects) AS p
CROSS JOIN LATERAL (SELECT CASE n %% 2 WHEN 0 THEN jsonb_build_object(
  (ARRAY['dead_click', 'rage_click', 'slow_load', 'form_abandonment', 'error'])[n / 2 %% 5 + 1], 1) ELSE '{}' END AS counts) AS f;

-- fill_events --
-- Twenty events a session, a few seconds apart: pages, clicks and their answers, and the finding at the end.
INSERT INTO public.traceflow_events (
  session_id, project_id, "timestamp", event_type, page_url, element_tag, element_selector, x_position, y_position,
  error_message, metadata
)
SELECT
  s.session_id, s.project_id, s.started_at + k * '3 s'::interval + CASE WHEN t.type = 'dom_change' THEN -'2.9 s'::interval
    ELSE '0 s'::interval END,
  t.type,
  'https://shop.example' || CASE
    WHEN k < 6 THEN '/' WHEN k < 11 OR s.n %% 3 > 0 THEN '/product/' || s.luck %% 20 || '?from=list'
    WHEN k < 16 THEN '/cart' ELSE '/thanks' END,
  'button', '#e' || (s.luck / 20 + k) %% 25, k * 10, k * 20,
  CASE t.type WHEN 'error' THEN 'x' || s.luck / 500 %% 200 || ' is not a function' END,
  CASE t.type
    WHEN 'form_abandonment' THEN jsonb_build_object('fields', 2, 'field_names', jsonb_build_array('mail', 'card' || s.luck %% 9))
    WHEN 'slow_load' THEN jsonb_build_object('response_ms', 3000 + s.luck %% 1000)
    WHEN 'error' THEN jsonb_build_object('fingerprint', 'f' || s.luck / 500 %% 200)
    ELSE '{"trusted": true, "release": "1.0"}' END
FROM (
  SELECT session_id, project_id, started_at, finding_counts, row_number() OVER (ORDER BY started_at DESC) AS n,
    abs(hashtext(session_id)::bigint) AS luck
  FROM public.traceflow_sessions
) AS s
CROSS JOIN generate_series(1, 20) AS k
CROSS JOIN LATERAL (SELECT CASE k WHEN 20 THEN coalesce((SELECT jsonb_object_keys(s.finding_counts)), 'scroll') ELSE (ARRAY[
  'pageview', 'click', 'dom_change', 'click', 'network', 'pageview', 'scroll', 'click', 'dom_change', 'input', 'pageview',
  'click', 'custom', 'scroll', 'click', 'pageview', 'scroll', 'click', 'dom_change'])[k] END AS type) AS t;

-- fill_hours --
-- Events by the hour.
SELECT public.recount_traceflow_event_hours();

-- fill_issues --
-- The findings as issues, one a project, type, page and element (or message).
INSERT INTO public.traceflow_ux_issues (
  project_id, issue_type, page_url, element_selector, fingerprint, occurrence_count, first_detected_at, last_detected_at
)
SELECT e.project_id, e.event_type, split_part(e.page_url, '?', 1),
  CASE WHEN e.event_type <> 'error' THEN e.element_selector END, e.metadata ->> 'fingerprint',
  count(*), min(e."timestamp"), max(e."timestamp")
FROM public.traceflow_events AS e
WHERE public.traceflow_finding_weight(e.event_type) IS NOT NULL
GROUP BY 1, 2, 3, 4, 5;

-- fill_findings --
-- Which findings make up an issue.
INSERT INTO public.traceflow_ux_issue_findings (finding_id, issue_id, project_id, session_id, visitor_id, detected_at)
SELECT e.id, i.id, e.project_id, e.session_id, s.visitor_id, e."timestamp"
FROM public.traceflow_events AS e
JOIN public.traceflow_sessions AS s ON s.session_id = e.session_id
JOIN public.traceflow_ux_issues AS i ON i.project_id = e.project_id AND i.issue_type = e.event_type
  AND i.page_url = split_part(e.page_url, '?', 1)
  AND i.element_selector IS NOT DISTINCT FROM CASE WHEN e.event_type <> 'error' THEN e.element_selector END
  AND i.fingerprint IS NOT DISTINCT FROM e.metadata ->> 'fingerprint'
WHERE public.traceflow_finding_weight(e.event_type) IS NOT NULL;

-- fill_issue_sessions --
-- The different sessions of each issue.
INSERT INTO public.traceflow_ux_issue_sessions (issue_id, session_id)
SELECT DISTINCT issue_id, session_id FROM public.traceflow_ux_issue_findings;

-- fill_issue_visitors --
-- The different visitors of each issue.
INSERT INTO public.traceflow_ux_issue_visitors (issue_id, visitor_id)
SELECT DISTINCT issue_id, visitor_id FROM public.traceflow_ux_issue_findings;

-- fill_recording --
-- A recording of ten minutes: 60 chunks of 20 kB.
INSERT INTO public.session_recording_chunks (session_id, seq, chunk_day, codec, events, event_count, raw_size_bytes)
SELECT 'first', n, (now() AT TIME ZONE 'UTC')::date, 'json', e.events, 100, length(e.events::text)
FROM generate_series(0, 59) AS n CROSS JOIN LATERAL (
  SELECT json_agg(json_build_object('type', 3, 'timestamp', n * 10000 + k, 'data', md5(n::text || k) || repeat('x', 120))) AS events
  FROM generate_series(1, 100) AS k
) AS e;

-- fill_recordings --
-- Its row.
INSERT INTO public.session_recordings (session_id) VALUES ('first');

-- partitions --
-- How many days of events there are.
SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.traceflow_events'::regclass;

-- claims --
-- Who asks, as the API layer says it.
SELECT set_config('request.jwt.claims', jsonb_build_object('sub', %(user)s::text)::text, false);

-- own_day --
-- With policies: a day's events of the own projects by type.
SELECT event_type, count(*) FROM public.traceflow_events
WHERE "timestamp" >= %(since)s GROUP BY 1;

-- own_day_by_hand --
-- The same without policies.
SELECT event_type, count(*) FROM public.traceflow_events
WHERE "timestamp" >= %(since)s AND project_id = ANY (%(projects)s::uuid[]) GROUP BY 1;

-- own_all --
-- With policies: all events of the own projects by type.
SELECT event_type, count(*) FROM public.traceflow_events GROUP BY 1;

-- own_all_by_hand --
-- The same without policies.
SELECT event_type, count(*) FROM public.traceflow_events WHERE project_id = ANY (%(projects)s::uuid[]) GROUP BY 1;

-- own_sessions --
-- With policies: the most frustrated sessions of the own projects.
SELECT session_id, frustration_score FROM public.traceflow_sessions ORDER BY frustration_score DESC LIMIT 50;

-- own_sessions_by_hand --
-- The same without policies.
SELECT session_id, frustration_score FROM public.traceflow_sessions WHERE project_id = ANY (%(projects)s::uuid[])
ORDER BY frustration_score DESC LIMIT 50;

-- own_session --
-- With policies: one session's events in order.
SELECT * FROM public.traceflow_events WHERE session_id = 'first' ORDER BY "timestamp";

-- own_session_by_hand --
-- The same without policies.
SELECT * FROM public.traceflow_events WHERE session_id = 'first' AND project_id = ANY (%(projects)s::uuid[])
ORDER BY "timestamp";
