-- What is kept and for how long, and removing rows that are kept no longer.

-- read --
-- For how many days each is kept; NULL: for ever.
SELECT
  (SELECT events_days FROM public.traceflow_retention) AS events,
  (SELECT recordings_days FROM public.traceflow_retention) AS recordings,
  (SELECT sessions_days FROM public.traceflow_retention) AS sessions;

-- keep --
-- Keep for so many days from now on; NULL: for ever.
INSERT INTO public.traceflow_retention AS held (events_days, recordings_days, sessions_days)
VALUES (%(events)s, %(recordings)s, %(sessions)s)
ON CONFLICT (id) DO UPDATE SET
  events_days = excluded.events_days, recordings_days = excluded.recordings_days, sessions_days = excluded.sessions_days;

-- kept_since --
-- The first day that is kept of each table; NULL: all are.
SELECT name, traceflow_parts.kept_since(('public.' || name)::regclass)
FROM unnest(%(tables)s::text[]) AS name;

-- follow_clock --
-- Count from today, unless the clock leapt.
SELECT traceflow_parts.follow_clock();

-- believe_clock --
-- Count from today, however far the clock leapt.
UPDATE public.traceflow_retention SET counted_from = traceflow_parts.today();

-- calendar --
-- The day that retention counts from, and the day that the server's clock says, in UTC.
SELECT counted_from, traceflow_parts.today() FROM public.traceflow_retention;

-- now --
-- The server's clock, in seconds since 1970.
SELECT extract(epoch FROM clock_timestamp())::double precision;

-- owner --
-- Who owns the tables, and whether this login may do what only an owner may: detach and drop a partition.
SELECT pg_get_userbyid(relowner)::text, pg_has_role(relowner, 'USAGE')
FROM pg_class WHERE oid = 'public.traceflow_events'::regclass;

-- expired_sessions --
-- How many sessions were active last before the first day that is kept.
SELECT count(*) FROM public.traceflow_sessions
WHERE started_at < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND coalesce(ended_at, started_at) < %(since)s::date::timestamp AT TIME ZONE 'UTC';

-- expired_recordings --
-- How many recordings were active last before the first day that is kept.
SELECT count(*) FROM public.session_recordings
WHERE start_time < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND coalesce(end_time, start_time) < %(since)s::date::timestamp AT TIME ZONE 'UTC';

-- next_sessions --
-- Lock the next expired sessions after a place, in order of their start; one that a sink writes now is not waited for.
SELECT session_id, started_at::text FROM public.traceflow_sessions
WHERE started_at < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND coalesce(ended_at, started_at) < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND (started_at, session_id) > (%(after)s::timestamptz, %(after_id)s)
ORDER BY started_at, session_id
LIMIT %(rows)s
FOR UPDATE SKIP LOCKED;

-- next_recordings --
-- Lock the next expired recordings after a place, in the same way.
SELECT session_id, start_time::text FROM public.session_recordings
WHERE start_time < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND coalesce(end_time, start_time) < %(since)s::date::timestamp AT TIME ZONE 'UTC'
  AND (start_time, session_id) > (%(after)s::timestamptz, %(after_id)s)
ORDER BY start_time, session_id
LIMIT %(rows)s
FOR UPDATE SKIP LOCKED;

-- lock_issues --
-- Lock the issues that name one of these sessions as their first, in the order in which sinks lock issues.
SELECT FROM public.traceflow_ux_issues WHERE session_id = ANY(%(session_ids)s::text[]) ORDER BY id FOR NO KEY UPDATE;

-- delete_findings --
-- Delete what linked the sessions' findings to issues.
DELETE FROM public.traceflow_ux_issue_findings WHERE session_id = ANY(%(session_ids)s::text[]);

-- delete_links --
-- Delete what linked the sessions to issues.
DELETE FROM public.traceflow_ux_issue_sessions WHERE session_id = ANY(%(session_ids)s::text[]);

-- delete_jobs --
-- Delete the sessions' AI jobs, with what went into them and what came out.
DELETE FROM public.traceflow_ai_queue WHERE session_id = ANY(%(session_ids)s::text[]);

-- delete_recordings --
-- Delete the sessions' recordings but their chunks, which go by the day.
DELETE FROM public.session_recordings WHERE session_id = ANY(%(session_ids)s::text[]);

-- delete_sessions --
-- Delete the sessions; an issue that one of them showed first forgets that.
DELETE FROM public.traceflow_sessions WHERE session_id = ANY(%(session_ids)s::text[]);
