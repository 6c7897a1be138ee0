-- What the owners of projects have used of their plans.

-- use --
-- Add new sessions and recordings to the subscriptions that pay for them, in the billing period in which they were made.
SELECT public.traceflow_count_usage(%(project_ids)s::uuid[], %(sessions)s::integer[], %(recordings)s::integer[])
