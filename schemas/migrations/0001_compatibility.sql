-- What Supabase brings along, made here only where it is missing: on Supabase nothing of this file changes anything,
-- on a plain PostgreSQL server the rest of the migrations then finds the same names.
-- Roles belong to the whole server, so another database may be migrated at the same moment: who comes second finds the
-- role made (duplicate_object) or waits for the first and then meets its row (unique_violation).

-- Extensions of the contract. Nothing here needs them (gen_random_uuid() is part of the core), and servers without
-- contrib do not have them.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['uuid-ossp', 'pgcrypto'] LOOP
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted) THEN
      RAISE NOTICE 'extension % is not available on this server: left out', wanted;
    ELSIF NOT EXISTS (SELECT FROM pg_extension WHERE extname = wanted) THEN
      BEGIN
        EXECUTE format('CREATE EXTENSION %I', wanted);
      EXCEPTION WHEN insufficient_privilege THEN
        RAISE WARNING 'extension % may not be created by %: left out, nothing needs it', wanted, current_user;
      END;
    END IF;
  END LOOP;
END $$;

-- Roles: anon, authenticated, service_role are Supabase's; the others are TraceFlow's own. All are NOLOGIN: a login
-- role is made a member (GRANT traceflow_analyst TO alice).
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY[
    'anon', 'authenticated', 'service_role', 'traceflow_gateway', 'traceflow_sink', 'traceflow_analyst'
  ] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN
        NULL;
      WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'role % is missing and % may not create roles', wanted, current_user
          USING ERRCODE = 'insufficient_privilege',
                HINT = 'Migrate as a role with CREATEROLE, or create the role first: CREATE ROLE '
                       || quote_ident(wanted) || ' NOLOGIN';
    END;
  END LOOP;
END $$;

-- COPY into a table with row-level security is refused to a role that is subject to it (0A000), so the sinks' role must
-- not be: by BYPASSRLS where we may give it (a superuser may; from PostgreSQL 16 on also a role that has it), else as a
-- member of the tables' owner.
DO $$
BEGIN
  IF NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = 'traceflow_sink')
     AND NOT pg_has_role('traceflow_sink', current_user, 'USAGE') THEN
    BEGIN
      ALTER ROLE traceflow_sink BYPASSRLS;
    EXCEPTION WHEN insufficient_privilege THEN
      BEGIN
        EXECUTE format('GRANT %I TO traceflow_sink', current_user);
      EXCEPTION WHEN insufficient_privilege OR invalid_grant_operation THEN
        RAISE WARNING 'traceflow_sink is subject to row-level security, so it cannot COPY: let the sinks log in as %, or as a superuser run ALTER ROLE traceflow_sink BYPASSRLS', current_user;
      END;
    END;
  END IF;
END $$;

-- service_role is Supabase's name for "no policies apply".
DO $$
BEGIN
  IF NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = 'service_role') THEN
    ALTER ROLE service_role BYPASSRLS;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'service_role stays subject to row-level security';
END $$;

-- The schema auth belongs to Supabase: nothing in it is ever replaced.
DO $$
BEGIN
  IF to_regnamespace('auth') IS NULL THEN
    CREATE SCHEMA auth;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, traceflow_gateway, traceflow_sink, traceflow_analyst;
  END IF;
  IF to_regclass('auth.users') IS NULL THEN
    CREATE TABLE auth.users (
      id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
      email TEXT UNIQUE,
      created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE auth.users IS 'Users, where Supabase does not keep them.';
  END IF;
  IF to_regprocedure('auth.uid()') IS NULL THEN
    CREATE FUNCTION auth.uid() RETURNS UUID LANGUAGE sql STABLE AS $f$
      SELECT coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
      )::uuid
    $f$;
    COMMENT ON FUNCTION auth.uid() IS 'The user whose request this is: the claim sub of the JWT that the API layer verified.';
  END IF;
END $$;

-- Partitions live in a schema of their own: reading a partition directly would pass by the policies of its parent.
CREATE SCHEMA traceflow_parts;
REVOKE ALL ON SCHEMA traceflow_parts FROM PUBLIC;
COMMENT ON SCHEMA traceflow_parts IS 'Partitions of the tables in public, and the functions that make them. Query the parents.';
