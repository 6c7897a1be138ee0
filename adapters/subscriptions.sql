-- Plans, who has which, and how much of it is used.

-- plans --
-- Give every plan, and how many subscriptions have it.
SELECT plan, title, sessions_limit, recordings_limit, ai_credits_limit, features, position, available,
       (SELECT count(*) FROM public.traceflow_subscriptions AS held WHERE held.plan = offered.plan) AS subscriptions
FROM public.traceflow_plans AS offered ORDER BY position, plan

-- plan --
-- Give one plan.
SELECT plan, title, sessions_limit, recordings_limit, ai_credits_limit, features, position, available
FROM public.traceflow_plans WHERE plan = %(plan)s FOR UPDATE

-- store_plan --
-- Make a plan, or change it.
INSERT INTO public.traceflow_plans
  (plan, title, sessions_limit, recordings_limit, ai_credits_limit, features, position, available)
VALUES
  (%(plan)s, %(title)s, %(sessions_limit)s, %(recordings_limit)s, %(ai_credits_limit)s, %(features)s, %(position)s,
   %(available)s)
ON CONFLICT (plan) DO UPDATE SET
  title = excluded.title, sessions_limit = excluded.sessions_limit, recordings_limit = excluded.recordings_limit,
  ai_credits_limit = excluded.ai_credits_limit, features = excluded.features, position = excluded.position,
  available = excluded.available

-- apply_plan --
-- Give the limits of a plan to the subscriptions that have it and other limits.
UPDATE public.traceflow_subscriptions AS held SET
  sessions_limit = offered.sessions_limit, recordings_limit = offered.recordings_limit,
  ai_credits_limit = offered.ai_credits_limit
FROM public.traceflow_plans AS offered
WHERE offered.plan = %(plan)s AND held.plan = offered.plan
  AND (held.sessions_limit, held.recordings_limit, held.ai_credits_limit)
      IS DISTINCT FROM (offered.sessions_limit, offered.recordings_limit, offered.ai_credits_limit)

-- usage --
-- Give what users with a subscription may and have used, of one user or of all.
SELECT payer.id::text AS user_id, to_jsonb(payer) ->> 'email' AS email, may.plan, may.status, may.in_force, may.period_start, may.period_end,
       may.sessions_limit, may.sessions_used, may.recordings_limit, may.recordings_used, may.ai_credits_limit,
       may.ai_credits_used, may.limited, may.features,
       ARRAY(SELECT owned.name FROM public.traceflow_projects AS owned WHERE owned.owner_id = payer.id ORDER BY 1)
         AS projects
FROM auth.users AS payer
CROSS JOIN LATERAL public.traceflow_entitlements(payer.id, now()) AS may
WHERE %(user_id)s::uuid IS NULL OR payer.id = %(user_id)s
ORDER BY 2, 1

-- paying --
-- Give the terms of the subscription that pays for a user, and whether it is in force; held for a change.
SELECT held.id::text, may.in_force, held.plan, held.status, held.billing_cycle, held.trial_ends_at,
       held.sessions_limit, held.recordings_limit, held.ai_credits_limit
FROM public.traceflow_entitlements(%(user_id)s, now()) AS may
JOIN public.traceflow_subscriptions AS held ON held.id = may.subscription_id
FOR NO KEY UPDATE OF held

-- limits --
-- Give the limits of a plan.
SELECT sessions_limit, recordings_limit, ai_credits_limit FROM public.traceflow_plans WHERE plan = %(plan)s

-- add --
-- Make a subscription whose first period begins now.
INSERT INTO public.traceflow_subscriptions
  (user_id, plan, status, billing_cycle, trial_ends_at, sessions_limit, recordings_limit, ai_credits_limit,
   current_period_start, current_period_end)
SELECT %(user_id)s, %(plan)s, %(status)s, %(billing_cycle)s, %(trial_ends_at)s, %(sessions_limit)s, %(recordings_limit)s,
       %(ai_credits_limit)s, period.starts, period.ends
FROM public.traceflow_billing_period(NULL, now(), %(billing_cycle)s, now()) AS period

-- change --
-- Change the terms of a subscription; one that had ended begins a new period.
UPDATE public.traceflow_subscriptions AS held SET
  plan = %(plan)s, status = %(status)s, billing_cycle = %(billing_cycle)s, trial_ends_at = %(trial_ends_at)s,
  sessions_limit = %(sessions_limit)s, recordings_limit = %(recordings_limit)s, ai_credits_limit = %(ai_credits_limit)s,
  current_period_start = CASE WHEN %(begins)s THEN period.starts ELSE held.current_period_start END,
  current_period_end = CASE WHEN %(begins)s THEN period.ends ELSE held.current_period_end END
FROM public.traceflow_billing_period(NULL, now(), %(billing_cycle)s, now()) AS period
WHERE held.id = %(id)s

-- cancel --
-- Let the subscription end with the present period or trial, or now. The stored dates may be those of a period before.
UPDATE public.traceflow_subscriptions AS held SET
  status = 'cancelled',
  current_period_start = may.period_start,
  current_period_end = coalesce(
    CASE WHEN %(at_once)s THEN now()
         WHEN held.status = 'trial' THEN least(held.trial_ends_at, may.period_end)
         ELSE may.period_end END,
    now())
FROM public.traceflow_entitlements(%(user_id)s, now()) AS may
WHERE held.id = may.subscription_id AND may.in_force
RETURNING held.current_period_end
