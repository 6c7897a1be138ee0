-- Counters while rows are put back: what they were before, and what they are to be after.

-- create_before --
-- What the counters of a batch were before its rows; goes with the transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS traceflow_sessions_before (
  session_id TEXT PRIMARY KEY, event_count INTEGER, rage_click_count INTEGER, dead_click_count INTEGER,
  error_count INTEGER, finding_counts JSONB, frustration_score INTEGER
) ON COMMIT DELETE ROWS;

-- create_recordings_before --
-- As create_before; `whole`: the recording's events had been put together in its row.
CREATE TEMPORARY TABLE IF NOT EXISTS traceflow_recordings_before (
  session_id TEXT PRIMARY KEY, event_count INTEGER, storage_size_bytes INTEGER, whole BOOLEAN NOT NULL
) ON COMMIT DELETE ROWS;

-- create_issues_before --
-- As create_before.
CREATE TEMPORARY TABLE IF NOT EXISTS traceflow_issues_before (
  id UUID PRIMARY KEY, occurrence_count INTEGER, affected_sessions INTEGER, affected_users INTEGER
) ON COMMIT DELETE ROWS;

-- empty_before --
-- Begin anew: a transaction may store more than once.
TRUNCATE pg_temp.traceflow_sessions_before, pg_temp.traceflow_recordings_before, pg_temp.traceflow_issues_before;

-- note_sessions --
-- Lock the sessions against counting, in order, and note their counters.
INSERT INTO pg_temp.traceflow_sessions_before
SELECT held.session_id, held.event_count, held.rage_click_count, held.dead_click_count, held.error_count,
  held.finding_counts, held.frustration_score
FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS wanted(session_id, project_id)
JOIN public.traceflow_sessions AS held ON held.session_id = wanted.session_id AND held.project_id = wanted.project_id
ORDER BY held.session_id
FOR NO KEY UPDATE OF held;

-- note_recordings --
-- Lock the recordings of these sessions, in order, and note their counters.
INSERT INTO pg_temp.traceflow_recordings_before
SELECT held.session_id, held.event_count, held.storage_size_bytes, held.events <> '[]'
FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS wanted(session_id, project_id)
JOIN public.session_recordings AS held ON held.session_id = wanted.session_id AND held.project_id = wanted.project_id
ORDER BY held.session_id
FOR NO KEY UPDATE OF held;

-- note_issues --
-- Lock the issues that these findings belong to, in order, and note their counters.
INSERT INTO pg_temp.traceflow_issues_before
SELECT held.id, held.occurrence_count, held.affected_sessions, held.affected_users
FROM public.traceflow_ux_issues AS held
WHERE held.id = ANY(%(issue_ids)s::uuid[])
ORDER BY held.id
FOR NO KEY UPDATE OF held;

-- lock_sessions --
-- Lock those that have come since too: only then the next statement sees all that was counted.
SELECT FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS wanted(session_id, project_id)
JOIN public.traceflow_sessions AS held ON held.session_id = wanted.session_id AND held.project_id = wanted.project_id
ORDER BY held.session_id
FOR NO KEY UPDATE OF held;

-- settle_sessions --
-- Each counter is what the rows say, or what it was if that is more: rows that were pruned stay counted. The score
-- follows the counts of findings, and stays if those are what they were.
UPDATE public.traceflow_sessions AS held SET
  event_count = settled.events,
  rage_click_count = settled.rage_clicks,
  dead_click_count = settled.dead_clicks,
  error_count = settled.errors,
  finding_counts = settled.findings,
  frustration_score = settled.score
FROM (
  SELECT session.session_id,
    greatest(before.event_count, counted.events)::integer AS events,
    greatest(before.rage_click_count, counted.rage_clicks)::integer AS rage_clicks,
    greatest(before.dead_click_count, counted.dead_clicks)::integer AS dead_clicks,
    greatest(before.error_count, counted.errors)::integer AS errors,
    kinds.findings,
    CASE WHEN kinds.findings = before.finding_counts THEN before.frustration_score
      ELSE public.traceflow_frustration_score(kinds.findings) END AS score
  FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS wanted(session_id, project_id)
  JOIN public.traceflow_sessions AS session
    ON session.session_id = wanted.session_id AND session.project_id = wanted.project_id
  LEFT JOIN pg_temp.traceflow_sessions_before AS before ON before.session_id = session.session_id
  CROSS JOIN LATERAL (
    SELECT
      count(*) AS events,
      count(*) FILTER (WHERE event_type = 'rage_click') AS rage_clicks,
      count(*) FILTER (WHERE event_type = 'dead_click') AS dead_clicks,
      count(*) FILTER (WHERE event_type = 'error') AS errors
    FROM public.traceflow_events AS event WHERE event.session_id = session.session_id
  ) AS counted
  CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(kind, most), '{}') AS findings FROM (
      SELECT kind, max(rows) AS most FROM (
        SELECT event_type AS kind, count(*) AS rows
        FROM public.traceflow_events AS event
        WHERE event.session_id = session.session_id AND public.traceflow_finding_weight(event_type) IS NOT NULL
        GROUP BY event_type
        UNION ALL
        SELECT kind, rows::bigint FROM jsonb_each_text(before.finding_counts) AS noted(kind, rows)
      ) AS each_way
      GROUP BY kind
    ) AS most_of_each
  ) AS kinds
) AS settled
WHERE held.session_id = settled.session_id AND (
  held.event_count, held.rage_click_count, held.dead_click_count, held.error_count, held.finding_counts,
  held.frustration_score
) IS DISTINCT FROM (
  settled.events, settled.rage_clicks, settled.dead_clicks, settled.errors, settled.findings, settled.score
);

-- settle_recordings --
-- As settle_sessions, from the chunks. A recording that had been put together, and has no more now than it had then,
-- is put together again.
UPDATE public.session_recordings AS held SET
  event_count = settled.event_count,
  storage_size_bytes = settled.size_bytes,
  events = CASE WHEN settled.whole THEN public.session_recording_events(held.session_id) ELSE held.events END,
  compressed = coalesce(held.compressed, false) AND NOT settled.whole OR settled.compressed
FROM (
  SELECT recording.session_id,
    greatest(before.event_count, chunks.events)::integer AS event_count,
    least(2147483647, greatest(before.storage_size_bytes, chunks.size_bytes))::integer AS size_bytes,
    coalesce(before.whole AND before.event_count >= chunks.events, false) AS whole,
    chunks.compressed
  FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) AS wanted(session_id, project_id)
  JOIN public.session_recordings AS recording
    ON recording.session_id = wanted.session_id AND recording.project_id = wanted.project_id
  LEFT JOIN pg_temp.traceflow_recordings_before AS before ON before.session_id = recording.session_id
  CROSS JOIN LATERAL (
    SELECT
      coalesce(sum(chunk.event_count), 0) AS events,
      coalesce(sum(CASE chunk.codec WHEN 'json' THEN chunk.raw_size_bytes ELSE octet_length(chunk.payload) END), 0)
        AS size_bytes,
      coalesce(bool_or(chunk.codec <> 'json'), false) AS compressed
    FROM public.session_recording_chunks AS chunk WHERE chunk.session_id = recording.session_id
  ) AS chunks
) AS settled
WHERE held.session_id = settled.session_id AND (
  (held.event_count, held.storage_size_bytes) IS DISTINCT FROM (settled.event_count, settled.size_bytes)
  OR settled.whole AND held.events = '[]'
);

-- settle_issues --
-- As settle_sessions, from the links.
UPDATE public.traceflow_ux_issues AS held SET
  occurrence_count = settled.findings,
  affected_sessions = settled.sessions,
  affected_users = settled.visitors
FROM (
  SELECT issue.id,
    greatest(before.occurrence_count, links.findings)::integer AS findings,
    greatest(before.affected_sessions, links.sessions)::integer AS sessions,
    greatest(before.affected_users, links.visitors)::integer AS visitors
  FROM public.traceflow_ux_issues AS issue
  LEFT JOIN pg_temp.traceflow_issues_before AS before ON before.id = issue.id
  CROSS JOIN LATERAL (
    SELECT
      (SELECT count(*) FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id) AS findings,
      (SELECT count(*) FROM public.traceflow_ux_issue_sessions AS link WHERE link.issue_id = issue.id) AS sessions,
      (SELECT count(*) FROM public.traceflow_ux_issue_visitors AS link WHERE link.issue_id = issue.id) AS visitors
  ) AS links
  WHERE issue.id = ANY(%(issue_ids)s::uuid[])
) AS settled
WHERE held.id = settled.id AND (held.occurrence_count, held.affected_sessions, held.affected_users)
  IS DISTINCT FROM (settled.findings, settled.sessions, settled.visitors);

-- settle_hours --
-- The events of these hours (epoch seconds) are what their rows say.
SELECT public.recount_traceflow_event_hours(to_timestamp(hour), to_timestamp(hour) + '1 hour'::interval)
FROM unnest(%(hours)s::bigint[]) AS hour;
