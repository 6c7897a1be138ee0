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
