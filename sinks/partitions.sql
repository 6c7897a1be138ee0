-- The days that rows fall into.

-- ensure_day --
-- Make the partition of one day if it is missing.
SELECT traceflow_parts.ensure_day(%(parent)s::regclass, %(day)s);

-- ensure_days --
-- Make the missing partitions around today, unless another process is doing so.
SELECT traceflow_parts.ensure_days(today - %(behind)s::integer, today + %(ahead)s::integer)
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock
WHERE pg_try_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('ensure_days'));

-- days_ahead --
-- For how many days after today partitions exist.
SELECT traceflow_parts.days_ahead(%(parent)s::regclass);
