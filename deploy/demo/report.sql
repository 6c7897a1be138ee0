-- What the demo shows, read back as any analyst would.

-- open_sessions --
-- How many of the sessions are not there yet or not closed.
SELECT count(*) FROM unnest(%(sessions)s::text[]) AS sent(session_id)
LEFT JOIN public.traceflow_sessions AS s USING (session_id)
WHERE s.closed IS NOT TRUE;

-- sink_positions --
-- Where the sinks stand in a topic.
SELECT part, min(next_offset) FROM public.traceflow_sink_offsets WHERE topic = %(topic)s GROUP BY part;

-- stored --
-- What came out: events that were sent, rows that TraceFlow found, recording chunks and the rrweb events in them.
SELECT
  (SELECT count(*) FROM public.traceflow_events AS e
   WHERE e.session_id = ANY (%(sessions)s) AND substr(e.id::text, 15, 1) <> '5') AS events,
  (SELECT count(*) FROM public.traceflow_events AS e
   WHERE e.session_id = ANY (%(sessions)s) AND substr(e.id::text, 15, 1) = '5') AS finding_rows,
  count(*) AS chunks,
  coalesce(sum(event_count), 0) AS rrweb_events
FROM public.session_recording_chunks
WHERE session_id = ANY (%(sessions)s);

-- sessions --
-- The sessions, the most frustrated first.
SELECT
  session_id, visitor_id, device_type, browser, os, landing_page, page_count,
  started_at, duration_ms, closed, event_count, rage_click_count, dead_click_count, error_count,
  finding_counts, frustration_score,
  public.traceflow_frustration_score(finding_counts) AS recomputed_score
FROM public.traceflow_sessions
WHERE session_id = ANY (%(sessions)s)
ORDER BY frustration_score DESC, session_id;

-- findings --
-- The findings, as rows of traceflow_events: where, on what, when.
SELECT
  e.session_id, e.event_type AS kind, e."timestamp" AS found_at,
  round(extract(epoch FROM e."timestamp" - s.started_at) * 1000)::integer AS since_start_ms,
  e.page_url, coalesce(e.element_selector, e.element_tag) AS element, e.element_text, e.error_message,
  e.x_position, e.y_position, e.metadata
FROM public.traceflow_events AS e JOIN public.traceflow_sessions AS s USING (session_id)
WHERE e.session_id = ANY (%(sessions)s) AND public.traceflow_finding_weight(e.event_type) IS NOT NULL
ORDER BY s.frustration_score DESC, e.session_id, e."timestamp", kind;

-- ux_issues --
-- The same seen from the page: one row for each kind, page and element.
SELECT issue_type, severity, page_url, element_selector, component, occurrence_count, affected_sessions, affected_users,
  status, first_detected_at, last_detected_at
FROM public.traceflow_ux_issues
WHERE project_id = %(project)s
ORDER BY occurrence_count DESC, issue_type, page_url, element_selector;

-- ai_jobs --
-- Jobs that wait for the AI worker, the most urgent first.
SELECT priority, task_type, session_id, status, input_data, created_at
FROM public.traceflow_ai_queue
WHERE session_id = ANY (%(sessions)s)
ORDER BY priority, session_id, task_type;
