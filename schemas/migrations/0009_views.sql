-- Views for analysts; each reads with the rights of who asks (security_invoker), so policies hold through them.

-- The rrweb events of a session in one array: what was materialised, else the chunks in order of window and sequence,
-- each once. NULL if a chunk is stored compressed, or if all of them exceed 200 MB (a JSONB holds 256 MB).
CREATE FUNCTION public.session_recording_events(wanted_session TEXT) RETURNS JSONB
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
  SELECT CASE
    WHEN r.events <> '[]'::jsonb OR c.chunks = 0 THEN r.events
    WHEN c.compressed OR c.raw_size > 200000000 THEN NULL
    ELSE (
      SELECT ('[' || coalesce(string_agg(nullif(btrim(substr(x.body, 2, length(x.body) - 2), E' \n\r\t'), ''), ','
                                         ORDER BY x.window_id, x.seq), '') || ']')::jsonb
      FROM (
        SELECT DISTINCT ON (k.window_id, k.seq) k.window_id, k.seq, btrim(k.events::text, E' \n\r\t') AS body
        FROM public.session_recording_chunks AS k WHERE k.session_id = wanted_session
        ORDER BY k.window_id, k.seq, k.chunk_day
      ) AS x
    ) END
  FROM public.session_recordings AS r CROSS JOIN LATERAL (
    SELECT count(*) AS chunks, bool_or(k.codec <> 'json') AS compressed, sum(k.raw_size_bytes::bigint) AS raw_size
    FROM public.session_recording_chunks AS k WHERE k.session_id = wanted_session
  ) AS c
  WHERE r.session_id = wanted_session
$$;
COMMENT ON FUNCTION public.session_recording_events(TEXT) IS 'The rrweb events of a session in one array; NULL if a chunk is stored compressed or all exceed 200 MB (then: traceflow recordings export).';

CREATE VIEW public.session_recordings_full WITH (security_invoker = true) AS
SELECT
  r.id,
  r.session_id,
  r.project_id,
  public.session_recording_events(r.session_id) AS events,
  r.duration_ms,
  r.event_count,
  r.page_count,
  r.pages_visited,
  r.user_agent,
  r.device_fingerprint,
  r.visitor_id,
  r.ip_address,
  r.geolocation,
  r.start_time,
  r.end_time,
  r.compressed,
  r.storage_size_bytes,
  r.created_at,
  r.updated_at
FROM public.session_recordings AS r;
COMMENT ON VIEW public.session_recordings_full IS 'session_recordings with the whole rrweb array in events. Name a session_id: each row is put together when it is read.';

CREATE VIEW public.traceflow_session_overview WITH (security_invoker = true) AS
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
  s.ai_root_cause
FROM public.traceflow_sessions AS s
LEFT JOIN LATERAL (
  SELECT kind, n::integer AS n, sum(n::integer) OVER () AS findings
  FROM jsonb_each_text(s.finding_counts) AS f(kind, n)
  WHERE n::integer > 0
  ORDER BY public.traceflow_finding_weight(kind) * n::integer DESC NULLS LAST, kind
  LIMIT 1
) AS top ON true;
COMMENT ON VIEW public.traceflow_session_overview IS 'One row a session: when, where, with what, how frustrated (frustration_score, 0 to 100) and by what most (top_finding: the kind with the largest share of the score).';

CREATE VIEW public.traceflow_session_timeline WITH (security_invoker = true) AS
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
ORDER BY e.session_id, e."timestamp", e.id;
COMMENT ON VIEW public.traceflow_session_timeline IS 'What happened in a session, events and findings in order. Name a session_id; with a range of "timestamp" only those days are read.';

CREATE VIEW public.traceflow_painful_elements WITH (security_invoker = true) AS
SELECT
  i.project_id,
  i.page_url,
  i.element_selector,
  min(i.component) AS component,
  sum(i.occurrence_count) AS occurrences,
  sum(i.occurrence_count) FILTER (WHERE i.issue_type = 'rage_click') AS rage_clicks,
  sum(i.occurrence_count) FILTER (WHERE i.issue_type = 'dead_click') AS dead_clicks,
  sum(i.occurrence_count) FILTER (WHERE i.issue_type = 'error') AS errors,
  sum(i.occurrence_count) FILTER (WHERE i.issue_type = 'form_abandonment') AS form_abandonments,
  (SELECT count(DISTINCT l.session_id) FROM public.traceflow_ux_issue_sessions AS l WHERE l.issue_id = ANY (array_agg(i.id)))
    AS affected_sessions,
  sum(i.occurrence_count * coalesce(public.traceflow_finding_weight(i.issue_type), 0)) AS pain,
  count(*) FILTER (WHERE i.status IN ('open', 'in_progress')) AS open_issues,
  min(i.first_detected_at) AS first_detected_at,
  max(i.last_detected_at) AS last_detected_at
FROM public.traceflow_ux_issues AS i
WHERE i.element_selector IS NOT NULL
GROUP BY i.project_id, i.page_url, i.element_selector;
COMMENT ON VIEW public.traceflow_painful_elements IS 'Elements that hurt, over all their issues: pain is the sum of occurrences times the weight of their kind. ORDER BY pain DESC.';

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'session_recordings_full', 'traceflow_session_overview', 'traceflow_session_timeline', 'traceflow_painful_elements'
  ] LOOP
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated', name);
    EXECUTE format('GRANT SELECT ON public.%I TO authenticated, service_role', name);
  END LOOP;
END $$;
GRANT SELECT ON public.traceflow_session_overview, public.traceflow_session_timeline, public.traceflow_painful_elements
  TO traceflow_analyst;
