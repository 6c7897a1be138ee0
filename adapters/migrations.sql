-- The history of migrations, and what a migrator needs beside the files.

-- known --
-- Tell whether the database has a history.
SELECT to_regclass('public.traceflow_schema_migrations') IS NOT NULL

-- create_history --
-- Make the history.
CREATE TABLE IF NOT EXISTS public.traceflow_schema_migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  ms INTEGER NOT NULL
)

-- history --
-- Give what was applied, in order.
SELECT version, name, sha256, applied_at, ms FROM public.traceflow_schema_migrations ORDER BY version

-- restricted --
-- Tell whether policies decide which rows of the history we see.
SELECT row_security_active('public.traceflow_schema_migrations')

-- record --
-- Write that a file was applied.
INSERT INTO public.traceflow_schema_migrations (version, name, sha256, ms)
VALUES (%(version)s, %(name)s, %(sha256)s, %(ms)s)

-- lock --
-- Wait for other migrators of this database; held to the end of the transaction.
SELECT pg_advisory_xact_lock(%(key)s)

-- set --
-- Change a setting to the end of the transaction.
SELECT set_config(%(name)s, %(value)s, true)

-- ensure_days --
-- Make the partitions around today.
SELECT traceflow_parts.ensure_days(today - %(back)s::integer, today + %(ahead)s::integer)
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock

-- read_committed --
-- Keep no snapshot between statements, whatever the database's default says.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED

-- may_idle --
-- Let the transaction wait for as long as it must.
SET LOCAL idle_in_transaction_session_timeout = 0

-- longest_transaction --
-- Tell whose transaction has been open for longest, but for our own.
SELECT pid, application_name, usename::text, extract(epoch FROM now() - xact_start)::integer
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 1
