-- What `traceflow status` reads from Postgres.

-- sink_positions --
-- Where each sink stands.
SELECT sink, part, next_offset FROM public.traceflow_sink_offsets WHERE topic = %(topic)s

-- days_ahead --
-- For how many days after today each partitioned table has its partitions.
SELECT relname, traceflow_parts.days_ahead(c.oid::regclass)
FROM pg_catalog.pg_class AS c
WHERE c.oid IN ('public.traceflow_events'::regclass, 'public.session_recording_chunks'::regclass)
ORDER BY relname

-- retention --
-- For how many days each table is kept, NULL for ever; how many days more are there; and whose the tables are.
SELECT
  kept.name, traceflow_parts.today() - kept.since, greatest(0, kept.since - oldest.day),
  pg_get_userbyid((SELECT relowner FROM pg_class WHERE oid = ('public.' || kept.name)::regclass))::text
FROM unnest(ARRAY['traceflow_events', 'session_recording_chunks', 'traceflow_sessions']) WITH ORDINALITY AS base(name, place)
CROSS JOIN LATERAL (
  -- by the clock alone: a day that is not counted from yet counts as overdue
  SELECT base.name, traceflow_parts.kept_since(('public.' || base.name)::regclass) + (now.today - now.counted_from) AS since
  FROM (SELECT traceflow_parts.today() AS today, counted_from FROM public.traceflow_retention) AS now
) AS kept
CROSS JOIN LATERAL (
  SELECT CASE kept.name
    WHEN 'traceflow_sessions' THEN (
      SELECT (started_at AT TIME ZONE 'UTC')::date FROM public.traceflow_sessions
      WHERE started_at < kept.since::timestamp AT TIME ZONE 'UTC'
        AND coalesce(ended_at, started_at) < kept.since::timestamp AT TIME ZONE 'UTC'
      ORDER BY started_at LIMIT 1
    )
    ELSE (
      SELECT min(to_date(right(leaf.relname, 8), 'YYYYMMDD')) FROM pg_class AS leaf
      WHERE leaf.relnamespace = 'traceflow_parts'::regnamespace AND leaf.relkind = 'r'
        AND leaf.relname ~ ('^' || kept.name || '_[0-9]{8}$')
    )
  END AS day
) AS oldest
ORDER BY base.place;

-- clock_leap --
-- What the clock says and from which day retention counts, while it does not follow the clock and something is to go.
SELECT counted_from, traceflow_parts.today() FROM public.traceflow_retention
WHERE traceflow_parts.today() > traceflow_parts.believed_until()
  AND coalesce(events_days, recordings_days, sessions_days) IS NOT NULL;

-- locks --
-- How many locks a question takes that looks into every day of events, each day's indexes included; how many the server
-- holds for each connection; and how many connections it counts with.
SELECT
  (SELECT count(*) FROM pg_class AS leaf
   WHERE leaf.relnamespace = 'traceflow_parts'::regnamespace AND leaf.relkind IN ('r', 'i')
     AND leaf.relname ~ '^traceflow_events_[0-9]{8}'),
  current_setting('max_locks_per_transaction')::integer,
  current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer;

-- newest_event --
-- How many seconds ago the newest stored event happened, by its own time; from the latest days alone.
SELECT extract(epoch FROM now() - max("timestamp")) FROM public.traceflow_events
WHERE "timestamp" BETWEEN now() - interval '2 days' AND now();

-- limited_projects --
-- Which projects the gateways refuse something because their owner's plan is used up, and until when at the latest.
SELECT project.id::text, project.name, may.limited, may.period_end
FROM public.traceflow_projects AS project
CROSS JOIN LATERAL public.traceflow_entitlements(project.owner_id, now()) AS may
WHERE may.limited <> '{}' ORDER BY project.name, project.id

-- server_version --
-- The server's version.
SELECT current_setting('server_version')
