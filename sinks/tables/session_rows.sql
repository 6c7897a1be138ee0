-- Sessions belong to the project that used their id first; whoever writes rows of a session claims it before.

-- claim_new --
-- Make the sessions that do not exist yet, and return those.
INSERT INTO public.traceflow_sessions (id, session_id, project_id, visitor_id, started_at)
SELECT wanted.id, wanted.session_id, wanted.project_id, wanted.visitor_id, to_timestamp(wanted.started_at / 1000.0)
FROM unnest(
  %(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(visitor_ids)s::text[], %(started_at)s::bigint[]
) AS wanted(id, session_id, project_id, visitor_id, started_at)
JOIN public.traceflow_projects AS project ON project.id = wanted.project_id
ORDER BY wanted.session_id
ON CONFLICT (session_id) DO NOTHING
RETURNING session_id;

-- claim_to_count --
-- The same, and lock those that exist, in one order: whoever counts them later in its transaction must not have taken a
-- new one before an older one that another holds, who waits for the new one. WHERE false locks and changes nothing.
INSERT INTO public.traceflow_sessions AS held (id, session_id, project_id, visitor_id, started_at)
SELECT wanted.id, wanted.session_id, wanted.project_id, wanted.visitor_id, to_timestamp(wanted.started_at / 1000.0)
FROM unnest(
  %(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(visitor_ids)s::text[], %(started_at)s::bigint[]
) AS wanted(id, session_id, project_id, visitor_id, started_at)
JOIN public.traceflow_projects AS project ON project.id = wanted.project_id
ORDER BY wanted.session_id
ON CONFLICT (session_id) DO UPDATE SET updated_at = held.updated_at WHERE false
RETURNING session_id;

-- claim_held --
-- Which of the wanted sessions are their projects', by place from 1, and whether they have restamped events; locked
-- against removal, not against counting.
SELECT wanted.place, held.has_restamped
FROM unnest(%(session_ids)s::text[], %(project_ids)s::uuid[]) WITH ORDINALITY AS wanted(session_id, project_id, place)
JOIN public.traceflow_sessions AS held ON held.session_id = wanted.session_id AND held.project_id = wanted.project_id
ORDER BY held.session_id
FOR KEY SHARE OF held;

-- count --
-- Claim the sessions and add what this transaction inserts; returns the sessions that are the project's, and whether
-- this statement made them. Partitioned tables do not show xmax here, so an update leaves its mark in updated_at.
-- One that has restamped events is locked and not returned, unless the rows are inserted already.
INSERT INTO public.traceflow_sessions AS held (
  id, session_id, project_id, visitor_id, started_at,
  event_count, rage_click_count, dead_click_count, error_count, finding_counts, frustration_score, has_restamped
)
SELECT
  added.id, added.session_id, added.project_id, added.visitor_id, to_timestamp(added.started_at / 1000.0),
  added.events,
  coalesce((added.findings ->> 'rage_click')::integer, 0),
  coalesce((added.findings ->> 'dead_click')::integer, 0),
  coalesce((added.findings ->> 'error')::integer, 0),
  added.findings,
  public.traceflow_frustration_score(added.findings),
  added.has_restamped
FROM unnest(
  %(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(visitor_ids)s::text[], %(started_at)s::bigint[],
  %(events)s::integer[], %(findings)s::jsonb[], %(has_restamped)s::boolean[]
) AS added(id, session_id, project_id, visitor_id, started_at, events, findings, has_restamped)
JOIN public.traceflow_projects AS project ON project.id = added.project_id
ORDER BY added.session_id
ON CONFLICT (session_id) DO UPDATE SET
  event_count = coalesce(held.event_count, 0) + excluded.event_count,
  rage_click_count = coalesce(held.rage_click_count, 0) + excluded.rage_click_count,
  dead_click_count = coalesce(held.dead_click_count, 0) + excluded.dead_click_count,
  error_count = coalesce(held.error_count, 0) + excluded.error_count,
  finding_counts = public.traceflow_add_counts(held.finding_counts, excluded.finding_counts),
  frustration_score = CASE excluded.finding_counts WHEN '{}' THEN held.frustration_score ELSE
    public.traceflow_frustration_score(public.traceflow_add_counts(held.finding_counts, excluded.finding_counts)) END,
  has_restamped = held.has_restamped OR excluded.has_restamped,
  updated_at = greatest(now(), held.created_at + '1 microsecond')
WHERE held.project_id = excluded.project_id AND (NOT held.has_restamped OR %(inserted)s)
RETURNING session_id, created_at = updated_at;

-- known_projects --
-- Which of these projects exist.
SELECT id::text FROM public.traceflow_projects WHERE id = ANY(%(project_ids)s::uuid[]);
