-- Functions and triggers: scores and counters, settings versions, notifications, the audit log, partitions.

-- 1. Score. 100 * (1 - exp(-sum(weight * count) / 10)), rounded half up; the weight of a kind is its share of pain.
-- float8 throughout, as in Python; no whole sum lies nearer than 4e-4 to a half, so any rounding rule gives the same.
-- The sum is capped at 1000 (the score is 100 from 53 on), where exp() would raise an underflow.
CREATE FUNCTION public.traceflow_finding_weight(kind TEXT) RETURNS INTEGER
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE kind
  WHEN 'error' THEN 5
  WHEN 'rage_click' THEN 4
  WHEN 'error_click' THEN 4
  WHEN 'form_abandonment' THEN 3
  WHEN 'dead_click' THEN 2
  WHEN 'slow_load' THEN 1
  WHEN 'quick_back' THEN 1
  WHEN 'thrashed_cursor' THEN 1
END;

-- In PL/pgSQL, whose expressions are planned once a session: the same as a SQL function takes five times as long a call,
-- and both are called for each session of each batch. Hence the weights once more.
CREATE FUNCTION public.traceflow_frustration_score(finding_counts JSONB) RETURNS INTEGER
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN floor(100 * (1 - exp(-least(1000::float8,
      5 * greatest((finding_counts ->> 'error')::float8, 0)
    + 4 * greatest((finding_counts ->> 'rage_click')::float8, 0)
    + 4 * greatest((finding_counts ->> 'error_click')::float8, 0)
    + 3 * greatest((finding_counts ->> 'form_abandonment')::float8, 0)
    + 2 * greatest((finding_counts ->> 'dead_click')::float8, 0)
    + greatest((finding_counts ->> 'slow_load')::float8, 0)
    + greatest((finding_counts ->> 'quick_back')::float8, 0)
    + greatest((finding_counts ->> 'thrashed_cursor')::float8, 0)
  ) / 10)) + 0.5::float8)::integer;
END $$;

CREATE FUNCTION public.traceflow_add_counts(present JSONB, added JSONB) RETURNS JSONB
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  kind text;
  total jsonb := coalesce(present, '{}');
BEGIN
  FOR kind IN SELECT jsonb_object_keys(added) LOOP
    total := total || jsonb_build_object(
      kind, coalesce((present ->> kind)::bigint, 0) + coalesce((added ->> kind)::bigint, 0));
  END LOOP;
  RETURN total;
END $$;

-- 2. The contract's functions.
DO $$
BEGIN
  -- A common helper: many databases have it, and then it is another's.
  IF to_regprocedure('public.update_updated_at_column()') IS NULL THEN
    CREATE FUNCTION public.update_updated_at_column() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $f$
    BEGIN
      NEW.updated_at = now();
      RETURN NEW;
    END $f$;
    COMMENT ON FUNCTION public.update_updated_at_column() IS 'Trigger: stamp the row with the time of its change.';
  END IF;
END $$;

-- For a plain INSERT. The sinks count for themselves, once a batch, and switch it off by traceflow.sink = 'on' (measured:
-- 5.8 to 11.7 times the CPU of an insert with it, none without).
CREATE FUNCTION public.update_traceflow_session_stats() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
  found_kind jsonb := CASE WHEN public.traceflow_finding_weight(NEW.event_type) IS NULL THEN '{}'
                           ELSE jsonb_build_object(NEW.event_type, 1) END;
  owning_project uuid;
BEGIN
  UPDATE public.traceflow_sessions
  SET
    event_count = coalesce(event_count, 0) + 1,
    rage_click_count = coalesce(rage_click_count, 0) + (NEW.event_type = 'rage_click')::integer,
    dead_click_count = coalesce(dead_click_count, 0) + (NEW.event_type = 'dead_click')::integer,
    error_count = coalesce(error_count, 0) + (NEW.event_type = 'error')::integer,
    finding_counts = public.traceflow_add_counts(finding_counts, found_kind),
    frustration_score = public.traceflow_frustration_score(public.traceflow_add_counts(finding_counts, found_kind)),
    updated_at = now()
  WHERE session_id = NEW.session_id
  RETURNING project_id INTO owning_project;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'session % of the event does not exist', quote_literal(NEW.session_id)
      USING ERRCODE = 'foreign_key_violation', HINT = 'Insert the row of traceflow_sessions first.';
  END IF;
  IF NEW.project_id IS NULL AND owning_project IS NOT NULL THEN
    UPDATE public.traceflow_events SET project_id = owning_project
    WHERE id = NEW.id AND "timestamp" = NEW."timestamp";
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION public.is_traceflow_admin(check_user_id UUID) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT EXISTS (
    SELECT 1 FROM public.user_roles
    WHERE user_id = check_user_id AND role = 'admin'
  ) OR EXISTS (
    SELECT 1 FROM public.traceflow_subscriptions
    WHERE user_id = check_user_id AND role IN ('admin', 'owner')
  )
$$;

CREATE TRIGGER on_traceflow_event_insert
  AFTER INSERT ON public.traceflow_events
  FOR EACH ROW
  WHEN (current_setting('traceflow.sink', true) IS DISTINCT FROM 'on')
  EXECUTE FUNCTION public.update_traceflow_session_stats();

CREATE TRIGGER update_session_recording_timestamp BEFORE UPDATE ON public.session_recordings
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_traceflow_project_timestamp BEFORE UPDATE ON public.traceflow_projects
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_traceflow_ux_issue_timestamp BEFORE UPDATE ON public.traceflow_ux_issues
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_traceflow_subscription_timestamp BEFORE UPDATE ON public.traceflow_subscriptions
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_traceflow_plan_timestamp BEFORE UPDATE ON public.traceflow_plans
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_neurorouter_route_timestamp BEFORE UPDATE ON public.neurorouter_routes
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();

-- 3. Settings: numbered here unless a number is given, never changed, gone only with their project.
CREATE FUNCTION public.number_traceflow_project_settings() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  IF NEW.version IS NULL THEN
    PERFORM FROM public.traceflow_projects WHERE id = NEW.project_id FOR NO KEY UPDATE;
    SELECT coalesce(max(version), 0) + 1 INTO NEW.version
    FROM public.traceflow_project_settings WHERE project_id = NEW.project_id;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER number_traceflow_project_settings BEFORE INSERT ON public.traceflow_project_settings
  FOR EACH ROW EXECUTE FUNCTION public.number_traceflow_project_settings();

CREATE FUNCTION public.keep_traceflow_project_settings() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM public.traceflow_projects WHERE id = OLD.project_id) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'settings version % of project % is immutable', OLD.version, OLD.project_id
    USING ERRCODE = 'restrict_violation', HINT = 'Insert a new version instead.';
END $$;
CREATE TRIGGER keep_traceflow_project_settings BEFORE UPDATE OR DELETE ON public.traceflow_project_settings
  FOR EACH ROW EXECUTE FUNCTION public.keep_traceflow_project_settings();

-- 4. Tell the gateways which project changed: channel traceflow_projects, payload the project's id. Equal notifications
-- of one transaction are sent once.
CREATE FUNCTION public.notify_traceflow_projects() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
  before jsonb := to_jsonb(OLD);
  after jsonb := to_jsonb(NEW);
BEGIN
  PERFORM pg_notify('traceflow_projects', project)
  FROM unnest(ARRAY[before ->> TG_ARGV[0], after ->> TG_ARGV[0]]) AS project
  WHERE project IS NOT NULL;
  RETURN NULL;
END $$;
CREATE TRIGGER notify_traceflow_projects AFTER INSERT OR UPDATE OR DELETE ON public.traceflow_projects
  FOR EACH ROW EXECUTE FUNCTION public.notify_traceflow_projects('id');
CREATE TRIGGER notify_traceflow_projects AFTER INSERT OR UPDATE OR DELETE ON public.traceflow_project_keys
  FOR EACH ROW EXECUTE FUNCTION public.notify_traceflow_projects('project_id');
CREATE TRIGGER notify_traceflow_projects AFTER INSERT OR DELETE ON public.traceflow_project_settings
  FOR EACH ROW EXECUTE FUNCTION public.notify_traceflow_projects('project_id');

-- A plan that is used up, or no longer: the owner's projects change as well. Usage below the limit tells nothing new.
CREATE FUNCTION public.notify_traceflow_projects_of_owner() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  PERFORM pg_notify('traceflow_projects', id::text) FROM public.traceflow_projects
  WHERE owner_id IN (OLD.user_id, NEW.user_id);
  RETURN NULL;
END $$;
CREATE TRIGGER notify_traceflow_projects AFTER INSERT OR DELETE ON public.traceflow_subscriptions
  FOR EACH ROW EXECUTE FUNCTION public.notify_traceflow_projects_of_owner();
CREATE TRIGGER notify_traceflow_projects_of_limits AFTER UPDATE ON public.traceflow_subscriptions
  FOR EACH ROW WHEN (
    (OLD.user_id, OLD.status, OLD.sessions_used >= OLD.sessions_limit, OLD.recordings_used >= OLD.recordings_limit)
    IS DISTINCT FROM
    (NEW.user_id, NEW.status, NEW.sessions_used >= NEW.sessions_limit, NEW.recordings_used >= NEW.recordings_limit)
  ) EXECUTE FUNCTION public.notify_traceflow_projects_of_owner();

-- 5. Audit log: who changed what of the things that people administer. Arguments: the column that names the target, and
-- the one that names the project, if there is one. A key's hash is not written.
CREATE FUNCTION public.write_traceflow_audit_log() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  before jsonb := to_jsonb(OLD) - 'key_hash';
  after jsonb := to_jsonb(NEW) - 'key_hash';
  subject jsonb := coalesce(after, before);
BEGIN
  INSERT INTO public.traceflow_audit_logs (actor_id, actor_role, action, target_table, target_id, project_id, details)
  VALUES (
    auth.uid(),
    coalesce(nullif(current_setting('role', true), 'none'), session_user),
    lower(TG_OP),
    TG_TABLE_NAME,
    subject ->> TG_ARGV[0],
    (subject ->> TG_ARGV[1])::uuid,
    CASE TG_OP WHEN 'UPDATE' THEN (
      SELECT jsonb_object_agg(key, jsonb_build_object('old', before -> key, 'new', value))
      FROM jsonb_each(after) WHERE value IS DISTINCT FROM before -> key AND key <> 'updated_at'
    ) ELSE subject END
  );
  RETURN NULL;
END $$;
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR UPDATE OR DELETE ON public.traceflow_projects
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('id', 'id');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR UPDATE OR DELETE ON public.traceflow_project_members
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('user_id', 'project_id');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR UPDATE OR DELETE ON public.traceflow_project_keys
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('id', 'project_id');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR DELETE ON public.traceflow_project_settings
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('version', 'project_id');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR DELETE ON public.traceflow_subscriptions
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('id');
CREATE TRIGGER write_traceflow_audit_log_of_terms AFTER UPDATE ON public.traceflow_subscriptions
  FOR EACH ROW WHEN (
    (OLD.user_id, OLD.plan, OLD.status, OLD.role, OLD.sessions_limit, OLD.recordings_limit, OLD.ai_credits_limit)
    IS DISTINCT FROM
    (NEW.user_id, NEW.plan, NEW.status, NEW.role, NEW.sessions_limit, NEW.recordings_limit, NEW.ai_credits_limit)
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');
CREATE TRIGGER write_traceflow_audit_log_of_status AFTER UPDATE ON public.traceflow_ux_issues
  FOR EACH ROW WHEN (
    OLD.status IS DISTINCT FROM NEW.status AND current_setting('traceflow.sink', true) IS DISTINCT FROM 'on'
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id', 'project_id');
DO $$
BEGIN
  -- Only on a table of ours (see 0006).
  IF (SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'public.user_roles'::regclass) THEN
    CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR UPDATE OR DELETE ON public.user_roles
      FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('user_id');
  END IF;
END $$;

-- 6. Partitions. LIKE and ATTACH take SHARE UPDATE EXCLUSIVE on the parent, which neither COPY nor a query waits for;
-- CREATE TABLE … PARTITION OF would wait for both. Run with the owner's rights, for the sinks may not make tables.
CREATE FUNCTION traceflow_parts.ensure_day(parent REGCLASS, d DATE) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = '3s' AS $$
DECLARE
  by_date boolean := parent = 'public.session_recording_chunks'::regclass;
  leaf text := (SELECT relname FROM pg_catalog.pg_class WHERE oid = parent) || to_char(d, '"_"YYYYMMDD');
  suffix text := CASE WHEN by_date THEN '' ELSE ' 00:00:00+00' END;
BEGIN
  IF NOT by_date AND parent <> 'public.traceflow_events'::regclass THEN
    RAISE EXCEPTION '% is not partitioned by day', parent USING ERRCODE = 'wrong_object_type';
  END IF;
  IF traceflow_parts.has_leaf(parent, leaf) THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('traceflow_parts'), hashtext(leaf));
  IF traceflow_parts.has_leaf(parent, leaf) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE IF NOT EXISTS traceflow_parts.%I (LIKE %s INCLUDING ALL)', leaf, parent);
  EXECUTE format('ALTER TABLE traceflow_parts.%I ENABLE ROW LEVEL SECURITY', leaf);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION traceflow_parts.%I FOR VALUES FROM (%L) TO (%L)',
                 parent, leaf, d || suffix, (d + 1) || suffix);
  RETURN true;
END $$;

-- By a query and not by to_regclass(): that one answers from a cache in which a table that another session has just made
-- may still be missing.
CREATE FUNCTION traceflow_parts.has_leaf(parent REGCLASS, leaf TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent AND c.relname = leaf
  )
$$;

CREATE FUNCTION traceflow_parts.ensure_days(first_day DATE, last_day DATE) RETURNS INTEGER
LANGUAGE sql SET search_path = '' AS $$
  SELECT count(*) FILTER (WHERE traceflow_parts.ensure_day(parent, d::date))::integer
  FROM generate_series(first_day::timestamp, last_day::timestamp, '1 day') AS d,
       unnest(ARRAY['public.traceflow_events', 'public.session_recording_chunks']::regclass[]) AS parent
$$;

CREATE FUNCTION traceflow_parts.days_ahead(parent REGCLASS) RETURNS INTEGER
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT coalesce(min(n) FILTER (WHERE NOT traceflow_parts.has_leaf(parent,
    (SELECT relname FROM pg_catalog.pg_class WHERE oid = parent)
    || to_char((now() AT TIME ZONE 'UTC')::date + n, '"_"YYYYMMDD'))) - 1, 400)
  FROM generate_series(1, 400) AS n
$$;

COMMENT ON FUNCTION public.traceflow_finding_weight(TEXT) IS 'Weight of a kind of finding in the score; NULL for an event_type that is no finding.';
COMMENT ON FUNCTION public.traceflow_frustration_score(JSONB) IS 'Score 0 to 100 of a session from traceflow_sessions.finding_counts.';
COMMENT ON FUNCTION public.traceflow_add_counts(JSONB, JSONB) IS 'Adds two objects of counts, key by key.';
COMMENT ON FUNCTION public.update_traceflow_session_stats() IS 'Trigger: keep counters, finding_counts and score of the session for a plain INSERT of an event; the sinks keep them themselves.';
COMMENT ON FUNCTION public.is_traceflow_admin(UUID) IS 'Whether the user is an admin of the installation, or admin or owner of a subscription. True for every owner of a subscription: no test for data of other projects.';
COMMENT ON FUNCTION public.number_traceflow_project_settings() IS 'Trigger: give a version without a number the next one.';
COMMENT ON FUNCTION public.keep_traceflow_project_settings() IS 'Trigger: refuse to change or delete a version while its project exists.';
COMMENT ON FUNCTION public.notify_traceflow_projects() IS 'Trigger: NOTIFY traceflow_projects with the id of the project that changed.';
COMMENT ON FUNCTION public.notify_traceflow_projects_of_owner() IS 'Trigger: NOTIFY traceflow_projects for each project of the subscription''s user.';
COMMENT ON FUNCTION public.write_traceflow_audit_log() IS 'Trigger: write the change to traceflow_audit_logs.';
COMMENT ON FUNCTION traceflow_parts.ensure_day(REGCLASS, DATE) IS 'Make the partition of a UTC day if it is missing; true if it made one.';
COMMENT ON FUNCTION traceflow_parts.has_leaf(REGCLASS, TEXT) IS 'Whether the parent has this partition.';
COMMENT ON FUNCTION traceflow_parts.ensure_days(DATE, DATE) IS 'Make the missing partitions of these UTC days, both included, of events and recording chunks; returns how many it made.';
COMMENT ON FUNCTION traceflow_parts.days_ahead(REGCLASS) IS 'For how many days after today (UTC) partitions exist without a gap.';
