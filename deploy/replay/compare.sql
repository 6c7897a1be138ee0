-- What the log says against what the tables hold; the expected rows lie in the sinks' staging tables.

-- lives --
-- The life that each session's row is of, and whose it is.
SELECT session_id, life, project_id::text FROM public.traceflow_sessions WHERE session_id = ANY(%(session_ids)s);

-- events --
-- Places of staged events that are missing, or stored otherwise. What an earlier try of the same event stored, perhaps
-- before the compared part of the log, is compared in all but its time: one of them was restamped.
SELECT staged.place, stored.id IS NULL
FROM pg_temp.traceflow_event_stage AS staged
LEFT JOIN LATERAL (
  -- in this order: the second branch runs only if the first gives nothing
  (
    SELECT * FROM public.traceflow_events AS exact
    WHERE exact.id = staged.id AND exact."timestamp" = staged."timestamp" LIMIT 1
  )
  UNION ALL
  (
    SELECT * FROM public.traceflow_events AS near
    WHERE near.id = staged.id
      AND near."timestamp" BETWEEN staged."timestamp" - staged.reach AND staged."timestamp" + staged.reach
      AND (staged.restamped OR near.metadata ?| '{client_timestamp,event.client_timestamp}')
    LIMIT 1
  )
  LIMIT 1
) AS stored ON true
WHERE stored.id IS NULL OR (
  stored.session_id, stored.project_id,
  CASE WHEN stored."timestamp" = staged."timestamp" THEN stored.metadata
    ELSE stored.metadata - '{client_timestamp,event.client_timestamp}'::text[] END,
  stored.event_type, stored.event_name,
  stored.page_url, stored.page_title, stored.element_tag, stored.element_id, stored.element_class, stored.element_text,
  stored.element_selector, stored.x_position, stored.y_position, stored.viewport_width, stored.viewport_height,
  stored.scroll_depth, stored.error_message, stored.error_stack, stored.time_on_page_ms
) IS DISTINCT FROM (
  staged.session_id, staged.project_id,
  CASE WHEN stored."timestamp" = staged."timestamp" THEN staged.metadata
    ELSE staged.metadata - '{client_timestamp,event.client_timestamp}'::text[] END,
  staged.event_type, staged.event_name,
  staged.page_url, staged.page_title, staged.element_tag, staged.element_id, staged.element_class, staged.element_text,
  staged.element_selector, staged.x_position, staged.y_position, staged.viewport_width, staged.viewport_height,
  staged.scroll_depth, staged.error_message, staged.error_stack, staged.time_on_page_ms
)
ORDER BY staged.place;

-- sessions --
-- Staged snapshots whose rows are missing or older, or of this version and otherwise; of a session that lived before
-- only the version is compared, since its row holds totals of all lives. What a snapshot leaves open others may say.
SELECT staged.session_id, staged.project_id::text, CASE
  WHEN held.session_id IS NULL THEN 'missing'
  WHEN (held.life, held.version) < (staged.life, staged.version) THEN 'behind'
  ELSE 'changed' END
FROM pg_temp.traceflow_snapshot_stage AS staged
LEFT JOIN public.traceflow_sessions AS held
  ON held.session_id = staged.session_id AND held.project_id = staged.project_id
WHERE held.session_id IS NULL OR (held.life, held.version) < (staged.life, staged.version) OR (
  (held.life, held.version) = (staged.life, staged.version) AND held.earlier_lives = '{}' AND (
    held.id, held.started_at, held.ended_at, held.duration_ms, held.closed, held.is_bot, held.page_count,
    held.pages_visited, held.custom_properties, held.visitor_id, held.user_agent, held.device_type, held.browser,
    held.os, held.screen_resolution, held.ip_address, held.country_code, held.city, held.geolocation, held.referrer,
    held.landing_page, held.clock_skew_ms
  ) IS DISTINCT FROM (
    staged.id, staged.started_at, staged.ended_at, staged.duration_ms, staged.closed, staged.is_bot, staged.page_count,
    staged.pages_visited, staged.custom_properties, coalesce(staged.visitor_id, held.visitor_id),
    coalesce(staged.user_agent, held.user_agent), coalesce(staged.device_type, held.device_type),
    coalesce(staged.browser, held.browser), coalesce(staged.os, held.os),
    coalesce(staged.screen_resolution, held.screen_resolution), coalesce(staged.ip_address, held.ip_address),
    coalesce(staged.country_code, held.country_code), coalesce(staged.city, held.city),
    coalesce(staged.geolocation, held.geolocation), staged.referrer, staged.landing_page,
    coalesce(staged.clock_skew_ms, held.clock_skew_ms)
  )
)
ORDER BY staged.session_id;

-- counters --
-- Sessions whose counters are not what their rows in traceflow_events say, or whose score is not that of its counts.
SELECT held.session_id, held.project_id::text
FROM public.traceflow_sessions AS held
CROSS JOIN LATERAL (
  SELECT
    count(*) AS events,
    count(*) FILTER (WHERE event_type = 'rage_click') AS rage_clicks,
    count(*) FILTER (WHERE event_type = 'dead_click') AS dead_clicks,
    count(*) FILTER (WHERE event_type = 'error') AS errors
  FROM public.traceflow_events AS event WHERE event.session_id = held.session_id
) AS counted
WHERE held.session_id = ANY(%(session_ids)s) AND (
  held.event_count, held.rage_click_count, held.dead_click_count, held.error_count, held.frustration_score
) IS DISTINCT FROM (
  counted.events, counted.rage_clicks, counted.dead_clicks, counted.errors,
  public.traceflow_frustration_score(held.finding_counts)
)
ORDER BY held.session_id;

-- issue_links --
-- Findings that count for no UX issue though they should.
SELECT finding_id::text FROM unnest(%(finding_ids)s::uuid[]) AS expected(finding_id)
WHERE NOT EXISTS (
  SELECT FROM public.traceflow_ux_issue_findings AS link WHERE link.finding_id = expected.finding_id
)
ORDER BY finding_id;

-- issue_counters --
-- Issues of these findings whose counters are not what their links say.
SELECT issue.id::text, issue.project_id::text, coalesce(issue.session_id, '')
FROM public.traceflow_ux_issues AS issue
CROSS JOIN LATERAL (
  SELECT
    (SELECT count(*) FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id) AS findings,
    (SELECT count(*) FROM public.traceflow_ux_issue_sessions AS link WHERE link.issue_id = issue.id) AS sessions,
    (SELECT count(*) FROM public.traceflow_ux_issue_visitors AS link WHERE link.issue_id = issue.id) AS visitors
) AS links
WHERE issue.id IN (
  SELECT link.issue_id FROM public.traceflow_ux_issue_findings AS link WHERE link.finding_id = ANY(%(finding_ids)s::uuid[])
) AND (issue.occurrence_count, issue.affected_sessions, issue.affected_users)
  IS DISTINCT FROM (links.findings, links.sessions, links.visitors)
ORDER BY issue.id;

-- jobs --
-- Jobs that are missing from the queue, or stand there otherwise; what the AI worker writes is its own.
SELECT expected.id::text, queued.id IS NULL
FROM unnest(
  %(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(task_types)s::text[], %(priorities)s::integer[],
  %(inputs)s::jsonb[]
) AS expected(id, session_id, project_id, task_type, priority, input_data)
LEFT JOIN public.traceflow_ai_queue AS queued ON queued.id = expected.id
WHERE queued.id IS NULL
  OR (queued.session_id, queued.project_id, queued.task_type, queued.priority, queued.input_data) IS DISTINCT FROM
    (expected.session_id, expected.project_id, expected.task_type, expected.priority, expected.input_data)
ORDER BY expected.id;

-- chunks --
-- Recording chunks that are missing, or stored otherwise.
SELECT expected.session_id, expected.window_id, expected.seq, stored.session_id IS NULL
FROM unnest(
  %(session_ids)s::text[], %(window_ids)s::text[], %(seqs)s::integer[], %(project_ids)s::uuid[], %(codecs)s::text[],
  %(event_counts)s::integer[], %(sizes)s::integer[], %(hashes)s::text[]
) AS expected(session_id, window_id, seq, project_id, codec, event_count, raw_size_bytes, hash)
LEFT JOIN public.session_recording_chunks AS stored
  ON stored.session_id = expected.session_id AND stored.window_id = expected.window_id AND stored.seq = expected.seq
WHERE stored.session_id IS NULL
  OR (stored.project_id, stored.codec, stored.event_count, stored.raw_size_bytes, md5(coalesce(
    convert_to(stored.events::text, 'UTF8'), stored.payload
  ))) IS DISTINCT FROM
    (expected.project_id, expected.codec, expected.event_count, expected.raw_size_bytes, expected.hash)
ORDER BY expected.session_id, expected.window_id, expected.seq;

-- recordings --
-- Recordings that are missing, or whose counters are not what their chunks say.
SELECT expected.session_id, expected.project_id::text, held.session_id IS NULL
FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS expected(session_id, project_id)
LEFT JOIN public.session_recordings AS held
  ON held.session_id = expected.session_id AND held.project_id = expected.project_id
CROSS JOIN LATERAL (
  SELECT
    coalesce(sum(chunk.event_count), 0) AS events,
    least(2147483647, coalesce(sum(
      CASE chunk.codec WHEN 'json' THEN chunk.raw_size_bytes ELSE octet_length(chunk.payload) END), 0)) AS size_bytes
  FROM public.session_recording_chunks AS chunk WHERE chunk.session_id = expected.session_id
) AS chunks
WHERE held.session_id IS NULL
  OR (held.event_count, held.storage_size_bytes) IS DISTINCT FROM (chunks.events, chunks.size_bytes)
ORDER BY expected.session_id;

-- offsets --
-- How far the sinks have stored each partition of these topics.
SELECT topic, part, max(next_offset) FROM public.traceflow_sink_offsets WHERE topic = ANY(%(topics)s) GROUP BY topic, part;

-- hours --
-- Hours whose events are not what their rows say, and both.
SELECT project_id::text,
  to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24"Z"') || ' ' || event_type || ': ' || counted || ', rows: ' || stored
FROM public.traceflow_event_hour_differences()
WHERE %(project_id)s::uuid IS NULL OR project_id = %(project_id)s::uuid
ORDER BY project_id, hour, event_type;
