-- Partitions by day: which there are, making them, and what pruning needs beside the ALTER TABLE that names a table.

-- list --
-- Give every partition by day, those included that pruning had to leave half-way: rows as the planner believes, -1 for
-- one that was never analysed, and bytes with indexes and TOAST.
SELECT
  base.name AS "table",
  leaf.relname::text AS name,
  to_date(right(leaf.relname, 8), 'YYYYMMDD') AS day,
  CASE WHEN held.inhrelid IS NULL THEN 'detached' WHEN held.inhdetachpending THEN 'detaching' ELSE 'attached' END AS state,
  leaf.reltuples::bigint AS rows,
  pg_total_relation_size(leaf.oid) AS size_bytes
FROM unnest(ARRAY['traceflow_events', 'session_recording_chunks']) AS base(name)
JOIN pg_class AS leaf ON leaf.relnamespace = 'traceflow_parts'::regnamespace AND leaf.relkind = 'r'
  AND leaf.relname ~ ('^' || base.name || '_[0-9]{8}$')
LEFT JOIN pg_inherits AS held ON held.inhrelid = leaf.oid
ORDER BY base.name, leaf.relname;

-- ensure --
-- Make the missing partitions around today; returns how many.
SELECT traceflow_parts.ensure_days(today - %(behind)s::integer, today + %(ahead)s::integer)
FROM traceflow_parts.today() AS today;

-- lock --
-- Take the lock of who prunes, held until the connection ends; false: another prunes.
SELECT pg_try_advisory_lock(hashtext('traceflow_parts'), hashtext('prune'));

-- set_wait --
-- Wait so long for a lock, in milliseconds.
SELECT set_config('lock_timeout', %(wait_ms)s::text, false);
