-- What was migrated is no secret: who watches an installation asks for it with an analyst's login.
GRANT SELECT ON public.traceflow_schema_migrations TO traceflow_analyst;
CREATE POLICY "Analysts can view" ON public.traceflow_schema_migrations FOR SELECT TO traceflow_analyst USING (true);

-- Views are for reading, for service_role as well: Supabase's default privileges gave it every right on them.
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT relname FROM pg_class
              WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
                AND (relname LIKE 'traceflow\_%' OR relname = 'session_recordings_full') LOOP
    EXECUTE format('REVOKE ALL ON public.%I FROM service_role', name);
    EXECUTE format('GRANT SELECT ON public.%I TO service_role', name);
  END LOOP;
END $$;
