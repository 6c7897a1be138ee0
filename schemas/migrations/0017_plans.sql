-- What a user may: which subscription pays, its limits, what of them is used in the present billing period, and features.
-- Gateways, sinks and features ask the same function. The rules for people: deploy/docs/plans.md.

-- 1. Counters belong to a period, and say to which. So a period that ends needs nobody who resets them at that moment,
-- whoever moves it on (a sink, the owner, a payment provider), and an ended subscription whose dates stay as they were
-- counts on its own months.
ALTER TABLE public.traceflow_subscriptions ADD COLUMN usage_since TIMESTAMPTZ;
-- Changes rows: traceflow_subscriptions.updated_at.
UPDATE public.traceflow_subscriptions SET usage_since = current_period_start WHERE current_period_start IS NOT NULL;

CREATE FUNCTION public.start_traceflow_usage() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  NEW.usage_since = coalesce(NEW.usage_since, NEW.current_period_start);
  RETURN NEW;
END $$;
CREATE TRIGGER start_traceflow_usage BEFORE INSERT ON public.traceflow_subscriptions
  FOR EACH ROW EXECUTE FUNCTION public.start_traceflow_usage();

-- 2. The period that holds a moment: the stored one, or as many calendar months or years later as have passed since, in
-- UTC. Its day of the month is the later one of its two ends, so that a period from the 31st to the 28th goes on to the
-- 31st. A function in PL/pgSQL is planned once a session.
CREATE FUNCTION public.traceflow_billing_period(
  period_start TIMESTAMPTZ, period_end TIMESTAMPTZ, billing_cycle TEXT, moment TIMESTAMPTZ,
  OUT starts TIMESTAMPTZ, OUT ends TIMESTAMPTZ
) LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  months CONSTANT integer := CASE billing_cycle WHEN 'annual' THEN 12 ELSE 1 END;
  anchor timestamp := period_end AT TIME ZONE 'UTC';
  present CONSTANT timestamp := moment AT TIME ZONE 'UTC';
  passed integer;
BEGIN
  starts := period_start;
  ends := period_end;
  IF period_end IS NULL OR moment < period_end OR NOT isfinite(period_end) THEN
    RETURN;
  END IF;
  IF (period_start AT TIME ZONE 'UTC') + make_interval(months => months) = anchor THEN
    anchor := period_start AT TIME ZONE 'UTC';
  END IF;
  passed := div((extract(year FROM present) - extract(year FROM anchor)) * 12
                + extract(month FROM present) - extract(month FROM anchor), months);
  IF anchor + make_interval(months => months * passed) <= present THEN
    passed := passed + 1;
  END IF;
  starts := (anchor + make_interval(months => months * (passed - 1))) AT TIME ZONE 'UTC';
  ends := (anchor + make_interval(months => months * passed)) AT TIME ZONE 'UTC';
END $$;

-- 3. What a user may at a moment. No row: nobody limits this user. A subscription is in force while it is active or past
-- due, until a trial ends, and until the end of the period in which it was cancelled; the newest one in force pays, else
-- the newest one, on the terms of the plan free, by months from the day on which it ended. Without a plan free it may
-- nothing. `limited` names the routes of the gateway that are closed. In SQL and without settings of its own, so that it
-- is planned as part of the query that asks.
CREATE FUNCTION public.traceflow_entitlements(of_user UUID, moment TIMESTAMPTZ DEFAULT now()) RETURNS TABLE (
  subscription_id UUID, status TEXT, plan TEXT, in_force BOOLEAN, features JSONB,
  period_start TIMESTAMPTZ, period_end TIMESTAMPTZ,
  sessions_limit INTEGER, sessions_used INTEGER,
  recordings_limit INTEGER, recordings_used INTEGER,
  ai_credits_limit INTEGER, ai_credits_used INTEGER,
  limited TEXT[]
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT allowed.*, array_remove(ARRAY[
    CASE WHEN allowed.sessions_used >= allowed.sessions_limit THEN 'events' END,
    CASE WHEN allowed.sessions_used >= allowed.sessions_limit OR allowed.recordings_used >= allowed.recordings_limit
      THEN 'recordings' END
  ], NULL)
  FROM (
    SELECT
      paying.id, paying.status, CASE WHEN paying.in_force THEN paying.plan ELSE 'free' END, paying.in_force,
      coalesce(terms.features, '[]'),
      period.starts, period.ends,
      CASE WHEN paying.in_force THEN paying.sessions_limit
           WHEN terms.plan IS NULL THEN 0 ELSE terms.sessions_limit END AS sessions_limit,
      CASE WHEN is_counted.here THEN coalesce(paying.sessions_used, 0) ELSE 0 END AS sessions_used,
      CASE WHEN paying.in_force THEN paying.recordings_limit
           WHEN terms.plan IS NULL THEN 0 ELSE terms.recordings_limit END AS recordings_limit,
      CASE WHEN is_counted.here THEN coalesce(paying.recordings_used, 0) ELSE 0 END AS recordings_used,
      CASE WHEN paying.in_force THEN paying.ai_credits_limit
           WHEN terms.plan IS NULL THEN 0 ELSE terms.ai_credits_limit END,
      CASE WHEN is_counted.here THEN coalesce(paying.ai_credits_used, 0) ELSE 0 END
    FROM (
      SELECT held.*, CASE held.status
        WHEN 'active' THEN true
        WHEN 'past_due' THEN true
        WHEN 'trial' THEN coalesce(moment < held.trial_ends_at, true)
        WHEN 'cancelled' THEN coalesce(moment < held.current_period_end, false)
        ELSE false
      END AS in_force
      FROM public.traceflow_subscriptions AS held WHERE held.user_id = of_user
      ORDER BY in_force DESC, held.created_at DESC, held.id DESC LIMIT 1
    ) AS paying
    LEFT JOIN public.traceflow_plans AS terms ON terms.plan = CASE WHEN paying.in_force THEN paying.plan ELSE 'free' END
    CROSS JOIN LATERAL public.traceflow_billing_period(
      CASE WHEN paying.in_force THEN paying.current_period_start END,
      CASE WHEN paying.in_force THEN paying.current_period_end
           WHEN paying.status = 'trial' THEN paying.trial_ends_at
           WHEN paying.status = 'cancelled' THEN coalesce(paying.current_period_end, paying.created_at)
           ELSE paying.created_at END,
      CASE WHEN paying.in_force THEN paying.billing_cycle ELSE 'monthly' END,
      moment
    ) AS period
    CROSS JOIN LATERAL (SELECT paying.usage_since IS NOT DISTINCT FROM period.starts) AS is_counted(here)
  ) AS allowed
$$;

-- 4. Use something of a plan. Sessions and recordings are counted whatever the limit is: they were acknowledged. AI credits
-- are spent if the limit allows all of them, else none, and the answer is false. All subscriptions of the user are locked
-- first: the statement after it sees what whoever held them has done. A transaction that began before the period which
-- another has opened meanwhile made its rows in the one before, which is counted no longer.
CREATE FUNCTION public.traceflow_use_plan(of_user UUID, sessions INTEGER, recordings INTEGER, ai_credits INTEGER)
RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  before record;
BEGIN
  PERFORM FROM public.traceflow_subscriptions WHERE user_id = of_user ORDER BY id FOR NO KEY UPDATE;
  SELECT * INTO before FROM public.traceflow_entitlements(of_user, now());
  IF NOT FOUND OR now() < before.period_start THEN
    RETURN true;
  END IF;
  IF ai_credits > 0 AND before.ai_credits_used + ai_credits > before.ai_credits_limit THEN
    RETURN false;
  END IF;
  UPDATE public.traceflow_subscriptions AS paying SET
    sessions_used = before.sessions_used + sessions,
    recordings_used = before.recordings_used + recordings,
    ai_credits_used = before.ai_credits_used + ai_credits,
    usage_since = before.period_start,
    -- an ended one keeps the dates on which it ended
    current_period_start = CASE WHEN before.in_force THEN before.period_start ELSE paying.current_period_start END,
    current_period_end = CASE WHEN before.in_force THEN before.period_end ELSE paying.current_period_end END
  WHERE paying.id = before.subscription_id;
  -- the trigger on the table compares with the row's own limits, which an ended one has no longer
  IF before.limited IS DISTINCT FROM (SELECT limited FROM public.traceflow_entitlements(of_user, now())) THEN
    PERFORM pg_notify('traceflow_projects', project.id::text)
    FROM public.traceflow_projects AS project WHERE project.owner_id = of_user;
  END IF;
  RETURN true;
END $$;

-- One owner after the other, in one order: two sinks never wait for each other.
CREATE FUNCTION public.traceflow_count_usage(project_ids UUID[], sessions INTEGER[], recordings INTEGER[]) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  owner record;
BEGIN
  FOR owner IN
    SELECT project.owner_id, sum(used.sessions)::integer AS sessions, sum(used.recordings)::integer AS recordings
    FROM unnest(project_ids, sessions, recordings) AS used(project_id, sessions, recordings)
    JOIN public.traceflow_projects AS project ON project.id = used.project_id AND project.owner_id IS NOT NULL
    GROUP BY project.owner_id ORDER BY project.owner_id
  LOOP
    PERFORM public.traceflow_use_plan(owner.owner_id, owner.sessions, owner.recordings, 0);
  END LOOP;
END $$;

CREATE FUNCTION public.traceflow_use_ai_credits(of_user UUID, credits INTEGER DEFAULT 1) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  IF credits IS NULL OR credits <= 0 THEN
    RAISE EXCEPTION 'credits must be above 0, not %', credits USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN public.traceflow_use_plan(of_user, 0, 0, credits);
END $$;

-- 5. Features. A user's own row decides while it has not expired, used up ones refuse; else the plan that pays has the
-- feature or has it not; whom nobody limits has all of them.
CREATE FUNCTION public.traceflow_has_feature(of_user UUID, feature TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT coalesce(
    (SELECT coalesce(own.enabled, true) AND coalesce(own.current_usage < own.usage_limit, true)
     FROM public.traceflow_user_features AS own
     WHERE own.user_id = of_user AND own.feature_id = feature AND coalesce(now() < own.expires_at, true)),
    (SELECT allowed.features ? feature FROM public.traceflow_entitlements(of_user, now()) AS allowed),
    true
  )
$$;

CREATE FUNCTION public.traceflow_use_feature(of_user UUID, feature TEXT, times INTEGER DEFAULT 1) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  own record;
BEGIN
  IF times IS NULL OR times <= 0 THEN
    RAISE EXCEPTION 'times must be above 0, not %', times USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT id, coalesce(current_usage, 0) + times AS used, usage_limit INTO own
  FROM public.traceflow_user_features
  WHERE user_id = of_user AND feature_id = feature AND coalesce(now() < expires_at, true)
  FOR NO KEY UPDATE;
  IF NOT public.traceflow_has_feature(of_user, feature) OR own.used > own.usage_limit THEN
    RETURN false;
  END IF;
  UPDATE public.traceflow_user_features SET current_usage = own.used WHERE id = own.id;
  RETURN true;
END $$;

-- 6. What users ask about themselves, and nobody about another.
CREATE FUNCTION public.traceflow_my_entitlements() RETURNS TABLE (
  subscription_id UUID, status TEXT, plan TEXT, in_force BOOLEAN, features JSONB,
  period_start TIMESTAMPTZ, period_end TIMESTAMPTZ,
  sessions_limit INTEGER, sessions_used INTEGER,
  recordings_limit INTEGER, recordings_used INTEGER,
  ai_credits_limit INTEGER, ai_credits_used INTEGER,
  limited TEXT[]
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT * FROM public.traceflow_entitlements((SELECT auth.uid()), now())
$$;

CREATE FUNCTION public.traceflow_my_feature(feature TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT auth.uid() IS NOT NULL AND public.traceflow_has_feature(auth.uid(), feature)
$$;

DO $$
DECLARE
  made regprocedure;
BEGIN
  -- Everyone may call a new function, and on Supabase default privileges say so to each role.
  FOREACH made IN ARRAY ARRAY[
    'public.traceflow_entitlements(uuid, timestamptz)', 'public.traceflow_use_plan(uuid, integer, integer, integer)',
    'public.traceflow_count_usage(uuid[], integer[], integer[])', 'public.traceflow_use_ai_credits(uuid, integer)',
    'public.traceflow_has_feature(uuid, text)', 'public.traceflow_use_feature(uuid, text, integer)',
    'public.traceflow_my_entitlements()', 'public.traceflow_my_feature(text)'
  ]::regprocedure[] LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', made);
  END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION public.traceflow_my_entitlements(), public.traceflow_my_feature(TEXT) TO authenticated;
GRANT EXECUTE ON FUNCTION public.traceflow_count_usage(UUID[], INTEGER[], INTEGER[]) TO traceflow_sink;
GRANT EXECUTE ON FUNCTION public.traceflow_entitlements(UUID, TIMESTAMPTZ),
  public.traceflow_use_ai_credits(UUID, INTEGER), public.traceflow_has_feature(UUID, TEXT),
  public.traceflow_use_feature(UUID, TEXT, INTEGER) TO service_role;
-- Gateways ask it with their own rights, and the terms of the plan free are among what it reads.
GRANT EXECUTE ON FUNCTION public.traceflow_entitlements(UUID, TIMESTAMPTZ) TO traceflow_gateway;
GRANT SELECT ON public.traceflow_plans TO traceflow_gateway;
CREATE POLICY "Gateways can view" ON public.traceflow_plans FOR SELECT TO traceflow_gateway USING (true);

-- 7. Gateways hear of everything that may change what a project is told.
DROP TRIGGER notify_traceflow_projects_of_limits ON public.traceflow_subscriptions;
CREATE TRIGGER notify_traceflow_projects_of_limits AFTER UPDATE ON public.traceflow_subscriptions
  FOR EACH ROW WHEN (
    (OLD.user_id, OLD.status, OLD.trial_ends_at, OLD.current_period_start, OLD.current_period_end, OLD.usage_since,
     OLD.sessions_used >= OLD.sessions_limit, OLD.recordings_used >= OLD.recordings_limit)
    IS DISTINCT FROM
    (NEW.user_id, NEW.status, NEW.trial_ends_at, NEW.current_period_start, NEW.current_period_end, NEW.usage_since,
     NEW.sessions_used >= NEW.sessions_limit, NEW.recordings_used >= NEW.recordings_limit)
  ) EXECUTE FUNCTION public.notify_traceflow_projects_of_owner();

-- 8. What people administer is audited: all terms of a subscription, plans, features. A period that only moved on by
-- itself is none of it.
DROP TRIGGER write_traceflow_audit_log_of_terms ON public.traceflow_subscriptions;
CREATE TRIGGER write_traceflow_audit_log_of_terms AFTER UPDATE ON public.traceflow_subscriptions
  FOR EACH ROW WHEN (
    (OLD.user_id, OLD.plan, OLD.status, OLD.role, OLD.billing_cycle, OLD.trial_ends_at,
     OLD.sessions_limit, OLD.recordings_limit, OLD.ai_credits_limit, OLD.stripe_customer_id, OLD.stripe_subscription_id)
    IS DISTINCT FROM
    (NEW.user_id, NEW.plan, NEW.status, NEW.role, NEW.billing_cycle, NEW.trial_ends_at,
     NEW.sessions_limit, NEW.recordings_limit, NEW.ai_credits_limit, NEW.stripe_customer_id, NEW.stripe_subscription_id)
    OR (
      (OLD.current_period_start, OLD.current_period_end) IS DISTINCT FROM (NEW.current_period_start, NEW.current_period_end)
      AND ROW(NEW.current_period_start, NEW.current_period_end) IS DISTINCT FROM public.traceflow_billing_period(
        OLD.current_period_start, OLD.current_period_end, OLD.billing_cycle, now())
    )
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR DELETE ON public.traceflow_plans
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('plan');
CREATE TRIGGER write_traceflow_audit_log_of_terms AFTER UPDATE ON public.traceflow_plans
  FOR EACH ROW WHEN (
    (OLD.plan, OLD.title, OLD.sessions_limit, OLD.recordings_limit, OLD.ai_credits_limit, OLD.features, OLD.position,
     OLD.available)
    IS DISTINCT FROM
    (NEW.plan, NEW.title, NEW.sessions_limit, NEW.recordings_limit, NEW.ai_credits_limit, NEW.features, NEW.position,
     NEW.available)
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('plan');
CREATE TRIGGER write_traceflow_audit_log AFTER INSERT OR DELETE ON public.traceflow_user_features
  FOR EACH ROW EXECUTE FUNCTION public.write_traceflow_audit_log('id');
CREATE TRIGGER write_traceflow_audit_log_of_terms AFTER UPDATE ON public.traceflow_user_features
  FOR EACH ROW WHEN (
    (OLD.user_id, OLD.feature_id, OLD.enabled, OLD.usage_limit, OLD.enabled_at, OLD.expires_at)
    IS DISTINCT FROM
    (NEW.user_id, NEW.feature_id, NEW.enabled, NEW.usage_limit, NEW.enabled_at, NEW.expires_at)
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');

COMMENT ON COLUMN public.traceflow_subscriptions.usage_since IS 'Start of the period in which the used counters count; of another period nothing is used yet. NULL: they count for ever.';
COMMENT ON COLUMN public.traceflow_subscriptions.current_period_start IS 'Start of the billing period; moved on by what is used first in the next one. traceflow_entitlements() tells the present one.';
COMMENT ON COLUMN public.traceflow_subscriptions.current_period_end IS 'End of the billing period, when the next one begins; NULL: usage counts for ever.';
COMMENT ON COLUMN public.traceflow_subscriptions.sessions_used IS 'Sessions of the period that usage_since names.';
COMMENT ON COLUMN public.traceflow_subscriptions.recordings_used IS 'Recorded sessions of the period that usage_since names.';
COMMENT ON COLUMN public.traceflow_subscriptions.ai_credits_used IS 'AI jobs of the period that usage_since names.';
COMMENT ON TABLE public.traceflow_audit_logs IS 'Who changed projects, members, keys, settings, plans, subscriptions, features, roles or the status of an issue. Written by triggers and by commands.';
COMMENT ON FUNCTION public.start_traceflow_usage() IS 'Trigger: the counters of a new subscription belong to its period.';
COMMENT ON FUNCTION public.traceflow_billing_period(TIMESTAMPTZ, TIMESTAMPTZ, TEXT, TIMESTAMPTZ) IS 'The billing period that holds a moment: the given one, or as many calendar months (annual: years) later as have passed since it ended, in UTC.';
COMMENT ON FUNCTION public.traceflow_entitlements(UUID, TIMESTAMPTZ) IS 'What a user may: the subscription that pays, its plan and features, the billing period, each limit (NULL: none) with what is used of it, and what is limited by it now: events (no sessions left), recordings. No row: nobody limits this user. The rules: deploy/docs/plans.md.';
COMMENT ON FUNCTION public.traceflow_use_plan(UUID, INTEGER, INTEGER, INTEGER) IS 'Add to what the user''s subscription has used; false, and nothing added, if the AI credits are more than are left.';
COMMENT ON FUNCTION public.traceflow_count_usage(UUID[], INTEGER[], INTEGER[]) IS 'Add new sessions and recordings of projects to the subscriptions of their owners; for the sinks.';
COMMENT ON FUNCTION public.traceflow_use_ai_credits(UUID, INTEGER) IS 'Spend AI credits of a user: true if there were as many left, else false, and none is spent.';
COMMENT ON FUNCTION public.traceflow_has_feature(UUID, TEXT) IS 'Whether a user may use a feature: by an own row that has not expired and is not used up, else by the plan.';
COMMENT ON FUNCTION public.traceflow_use_feature(UUID, TEXT, INTEGER) IS 'Use a feature of a user some times: true and counted if the user may so often, else false, and nothing is counted.';
COMMENT ON FUNCTION public.traceflow_my_entitlements() IS 'What the present user may; see traceflow_entitlements.';
COMMENT ON FUNCTION public.traceflow_my_feature(TEXT) IS 'Whether the present user may use a feature; see traceflow_has_feature.';
