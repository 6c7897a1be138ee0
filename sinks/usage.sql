-- What the owners of projects have used of their plans.

-- use --
-- Add new sessions and recordings to the subscriptions that pay for them, locked in one order.
WITH added AS (
  SELECT project.owner_id, sum(used.sessions)::integer AS sessions, sum(used.recordings)::integer AS recordings
  FROM unnest(%(project_ids)s::uuid[], %(sessions)s::integer[], %(recordings)s::integer[])
    AS used(project_id, sessions, recordings)
  JOIN public.traceflow_projects AS project ON project.id = used.project_id AND project.owner_id IS NOT NULL
  GROUP BY project.owner_id
), paying AS (
  SELECT subscription.id, added.sessions, added.recordings
  FROM added JOIN public.traceflow_subscriptions AS subscription ON subscription.id = (
    SELECT latest.id FROM public.traceflow_subscriptions AS latest
    WHERE latest.user_id = added.owner_id AND latest.status IN ('active', 'trial')
    ORDER BY latest.created_at DESC LIMIT 1
  )
  ORDER BY subscription.id
  FOR NO KEY UPDATE OF subscription
)
UPDATE public.traceflow_subscriptions AS subscription SET
  sessions_used = coalesce(subscription.sessions_used, 0) + paying.sessions,
  recordings_used = coalesce(subscription.recordings_used, 0) + paying.recordings,
  updated_at = now()
FROM paying WHERE subscription.id = paying.id;
