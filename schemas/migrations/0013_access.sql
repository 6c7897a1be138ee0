-- Access, second part: recordings for whom they are granted to, logins of analysts, and what a member may not learn or
-- take of another project.

-- 1. Recordings show what people typed and read, so analysts do not have them: GRANT traceflow_recording_viewer TO alice.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'traceflow_recording_viewer') THEN
    BEGIN
      CREATE ROLE traceflow_recording_viewer NOLOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN
        NULL;
      WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'role traceflow_recording_viewer is missing and % may not create roles', current_user
          USING ERRCODE = 'insufficient_privilege',
                HINT = 'Migrate as a role with CREATEROLE, or create the role first: CREATE ROLE traceflow_recording_viewer NOLOGIN';
    END;
  END IF;
  IF NOT has_schema_privilege('traceflow_recording_viewer', 'public', 'USAGE') THEN
    GRANT USAGE ON SCHEMA public TO traceflow_recording_viewer;
  END IF;
END $$;
GRANT SELECT ON public.session_recordings, public.session_recording_chunks, public.session_recordings_full
  TO traceflow_recording_viewer;
-- The policies for admins ask user_roles with the rights of who reads, and viewers have none there.
ALTER POLICY "Admins can view all recordings" ON public.session_recordings TO authenticated;
ALTER POLICY "Admins can view all recording chunks" ON public.session_recording_chunks TO authenticated;
CREATE POLICY "Recording viewers can view" ON public.session_recordings
  FOR SELECT TO traceflow_recording_viewer USING (true);
CREATE POLICY "Recording viewers can view" ON public.session_recording_chunks
  FOR SELECT TO traceflow_recording_viewer USING (true);

-- 2. Settings of a role do not reach its members, so a login is made an analyst by a function that gives it both. The
-- settings are guards against slips; what holds is that the role has no right to write.
CREATE FUNCTION public.make_traceflow_analyst(login NAME, recordings BOOLEAN DEFAULT false) RETURNS VOID
LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
  setting text;
BEGIN
  EXECUTE format('GRANT traceflow_analyst TO %I', login);
  IF recordings THEN
    EXECUTE format('GRANT traceflow_recording_viewer TO %I', login);
  END IF;
  FOREACH setting IN ARRAY ARRAY[
    'default_transaction_read_only = on', 'statement_timeout = ''60s''',
    'idle_in_transaction_session_timeout = ''5min''', 'lock_timeout = ''5s'''
  ] LOOP
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %s', login, current_database(), setting);
  END LOOP;
END $$;
COMMENT ON FUNCTION public.make_traceflow_analyst(NAME, BOOLEAN) IS 'Make an existing login an analyst: traceflow_analyst''s rights, read-only transactions, 60 s a statement, 5 min idle in a transaction; with recordings if asked. For the owner: SELECT make_traceflow_analyst(''alice'').';
REVOKE ALL ON FUNCTION public.make_traceflow_analyst(NAME, BOOLEAN) FROM PUBLIC, anon, authenticated, service_role;

-- 3. Members manage the issues of their projects, but give no ids: a sink names an issue by a hash that everyone who
-- knows a project's id can compute, and one who took another project's name for an issue would stop that sink.
REVOKE INSERT, UPDATE ON public.traceflow_ux_issues FROM authenticated;
DO $$
DECLARE
  given text;
BEGIN
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO given FROM pg_attribute
  WHERE attrelid = 'public.traceflow_ux_issues'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'id';
  EXECUTE format('GRANT INSERT (%s), UPDATE (%s) ON public.traceflow_ux_issues TO authenticated', given, given);
END $$;

-- Nor do they learn by a foreign key whether another project has a session of some id.
ALTER POLICY "Project members can manage" ON public.traceflow_ux_issues
  USING (project_id = ANY ((SELECT public.traceflow_my_projects())::uuid[]))
  WITH CHECK (
    project_id = ANY ((SELECT public.traceflow_my_projects())::uuid[])
    AND (session_id IS NULL OR EXISTS (
      SELECT FROM public.traceflow_sessions AS s WHERE s.session_id = traceflow_ux_issues.session_id
    ))
  );

-- 4. The sinks change only what they count in or replace; events, chunks, links and jobs they add.
REVOKE UPDATE ON public.traceflow_events, public.session_recording_chunks, public.traceflow_ux_issue_findings,
  public.traceflow_ux_issue_sessions, public.traceflow_ux_issue_visitors, public.traceflow_ai_queue FROM traceflow_sink;

-- 5. What was audited and what was migrated stays as it was written.
REVOKE UPDATE, DELETE, TRUNCATE ON public.traceflow_audit_logs FROM service_role;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.traceflow_schema_migrations FROM service_role;

-- 6. A function that may not run in parallel keeps every query of a member on one core.
ALTER FUNCTION public.traceflow_my_projects() PARALLEL SAFE;
