-- The days that rows fall into.

-- ensure_day --
-- Make the partition of one day if it is missing; NULL: it can have none, because it is kept no longer.
SELECT traceflow_parts.ensure_day(%(parent)s::regclass, %(day)s);

-- ensure_days --
-- Make the missing partitions around today, unless another process is doing so.
SELECT traceflow_parts.ensure_days(today - %(behind)s::integer, today + %(ahead)s::integer)
FROM traceflow_parts.today() AS today
WHERE pg_try_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('ensure_days'));

-- kept_since --
-- The first day that is kept, NULL if all are.
SELECT traceflow_parts.kept_since(%(parent)s::regclass);

-- days_ahead --
-- For how many days after today partitions exist.
SELECT traceflow_parts.days_ahead(%(parent)s::regclass);

-- oldest_days --
-- How many days before today the oldest partition of each table begins, those included that are being dropped.
SELECT base.name, traceflow_parts.today() - to_date(right(min(leaf.relname), 8), 'YYYYMMDD')
FROM unnest(ARRAY['traceflow_events', 'session_recording_chunks']) AS base(name)
JOIN pg_class AS leaf ON leaf.relnamespace = 'traceflow_parts'::regnamespace AND leaf.relkind = 'r'
  AND leaf.relname ~ ('^' || base.name || '_[0-9]{8}$')
GROUP BY base.name;
