-- Realtime: the publication is Supabase's where it exists. A partitioned table is published as itself
-- (publish_via_partition_root), or its changes would arrive under the names of partitions.
DO $$
DECLARE
  name text;
  statement text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
    BEGIN
      -- Without wal_level = logical the server would warn: nobody listens there, and that is as good.
      SET LOCAL client_min_messages = error;
      CREATE PUBLICATION supabase_realtime WITH (publish_via_partition_root = true);
      SET LOCAL client_min_messages = warning;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'publication supabase_realtime is missing and % may not create it: realtime is off', current_user;
      RETURN;
    END;
  END IF;
  IF NOT (SELECT pubviaroot FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
    statement := 'ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root = true)';
    BEGIN
      EXECUTE statement;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING '% does not own the publication supabase_realtime; its owner runs: %', current_user, statement;
    END;
  END IF;
  IF (SELECT puballtables FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
    RETURN;
  END IF;
  FOREACH name IN ARRAY ARRAY['traceflow_sessions', 'traceflow_events', 'traceflow_ux_issues'] LOOP
    statement := format('ALTER PUBLICATION supabase_realtime ADD TABLE public.%I', name);
    BEGIN
      EXECUTE statement;
    EXCEPTION
      WHEN duplicate_object THEN
        NULL;
      WHEN insufficient_privilege THEN
        RAISE WARNING '% does not own the publication supabase_realtime; its owner runs: %', current_user, statement;
    END;
  END LOOP;
END $$;
