-- Erasure: what is blocked, and the rows of what is to go. The protocol is told in the migration that makes the table.

-- find --
-- Which of these are on the list, and since when, epoch ms; nobody adds to it before this transaction ends.
SELECT id_hash, (extract(epoch FROM erased_at) * 1000)::bigint
FROM public.find_traceflow_erased(%(hashes)b::bytea[]);

-- known_before --
-- Places of the sessions that had a row at a moment, epoch ms.
SELECT asked.place
FROM unnest(%(project_ids)s::uuid[], %(session_ids)s::text[], %(moments)s::bigint[])
  WITH ORDINALITY AS asked(project_id, session_id, moment, place)
JOIN public.traceflow_sessions AS known
  ON known.session_id = asked.session_id AND known.project_id = asked.project_id
  AND known.created_at <= to_timestamp(asked.moment / 1000.0);

-- blocked --
-- Places of the sessions that are blocked.
SELECT wanted.place
FROM unnest(%(project_ids)s::uuid[], %(session_ids)s::text[])
  WITH ORDINALITY AS wanted(project_id, session_id, place)
JOIN public.traceflow_erasures AS erasure
  ON erasure.id_hash = public.traceflow_erasure_hash(wanted.project_id, 'session', wanted.session_id);

-- block_session --
-- Let nothing of a session be stored from now on.
SELECT public.block_traceflow_session(%(project_id)s::uuid, %(id)s);

-- block_visitor --
-- Let nothing be stored that was received of a visitor up to now, and nothing of the visitor's sessions.
SELECT public.block_traceflow_visitor(%(project_id)s::uuid, %(id)s);

-- sessions_of_visitor --
-- Sessions that name the visitor, blocked ones alone if asked.
SELECT named.session_id
FROM (
  SELECT held.session_id FROM public.traceflow_sessions AS held
  WHERE held.project_id = %(project_id)s::uuid AND held.visitor_id = %(id)s
  UNION
  SELECT held.session_id FROM public.session_recordings AS held
  WHERE held.project_id = %(project_id)s::uuid AND held.visitor_id = %(id)s
) AS named
WHERE NOT %(blocked)s OR EXISTS (
  SELECT FROM public.traceflow_erasures AS erasure
  WHERE erasure.id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, 'session', named.session_id)
)
ORDER BY named.session_id LIMIT %(most)s;

-- remove --
-- Remove the rows of blocked sessions, and add them to what the erasure has removed.
SELECT public.remove_traceflow_sessions(
  %(project_id)s::uuid, %(session_ids)s::text[], public.traceflow_erasure_hash(%(project_id)s::uuid, %(kind)s, %(id)s)
);

-- rows --
-- How many rows name these sessions, by table; of visitors of UX issues those whom no other session names. The days' tables
-- join the ids, because for = ANY the planner weighs each id against the statistics of each day.
SELECT 'traceflow_sessions', count(*) FROM public.traceflow_sessions
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'traceflow_events', count(*) FROM public.traceflow_events
  WHERE session_id IN (SELECT unnest(%(session_ids)s::text[])) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'session_recordings', count(*) FROM public.session_recordings
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'session_recording_chunks', count(*) FROM public.session_recording_chunks
  WHERE session_id IN (SELECT unnest(%(session_ids)s::text[])) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'traceflow_ux_issues', count(*) FROM public.traceflow_ux_issues
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'traceflow_ux_issue_findings', count(*) FROM public.traceflow_ux_issue_findings
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'traceflow_ux_issue_sessions', count(*) FROM public.traceflow_ux_issue_sessions AS link
  JOIN public.traceflow_ux_issues AS issue ON issue.id = link.issue_id
  WHERE link.session_id = ANY (%(session_ids)s) AND issue.project_id = %(project_id)s::uuid
UNION ALL SELECT 'traceflow_ux_issue_visitors', count(*) FROM public.traceflow_ux_issue_visitors AS link
  JOIN (
    SELECT DISTINCT issue_id, visitor_id FROM public.traceflow_ux_issue_findings
    WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
  ) AS named USING (issue_id, visitor_id)
  WHERE NOT EXISTS (
    SELECT FROM public.traceflow_ux_issue_findings AS other
    WHERE other.issue_id = link.issue_id AND other.visitor_id = link.visitor_id
      AND other.session_id <> ALL (%(session_ids)s)
  )
UNION ALL SELECT 'traceflow_ai_queue', count(*) FROM public.traceflow_ai_queue
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid
UNION ALL SELECT 'neurorouter_logs', count(*) FROM public.neurorouter_logs
  WHERE session_id = ANY (%(session_ids)s) AND project_id = %(project_id)s::uuid;

-- names --
-- How many findings and issues name the visitor beside the sessions that are the visitor's, since before the erasure.
SELECT 'traceflow_ux_issue_findings', count(*)
FROM public.traceflow_ux_issue_findings AS link, public.traceflow_erasures AS erasure
WHERE erasure.id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, 'visitor', %(id)s)
  AND link.visitor_id = %(id)s AND link.project_id = erasure.project_id AND link.created_at <= erasure.erased_at
UNION ALL SELECT 'traceflow_ux_issue_visitors', count(*)
FROM public.traceflow_ux_issue_visitors AS link
JOIN public.traceflow_ux_issues AS issue ON issue.id = link.issue_id
CROSS JOIN public.traceflow_erasures AS erasure
WHERE erasure.id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, 'visitor', %(id)s)
  AND link.visitor_id = %(id)s AND issue.project_id = erasure.project_id AND link.first_seen_at <= erasure.erased_at
  AND NOT EXISTS (
    SELECT FROM public.traceflow_ux_issue_findings AS later
    WHERE later.issue_id = link.issue_id AND later.visitor_id = link.visitor_id
      AND later.created_at > erasure.erased_at
  );

-- forget_findings --
-- Take the visitor's name from findings of sessions that are another visitor's by now.
UPDATE public.traceflow_ux_issue_findings AS link SET visitor_id = NULL
FROM public.traceflow_erasures AS erasure
WHERE erasure.id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, 'visitor', %(id)s)
  AND link.visitor_id = %(id)s AND link.project_id = erasure.project_id AND link.created_at <= erasure.erased_at;

-- forget_issues --
-- Let issues no longer count the visitor for what was before the erasure.
WITH gone AS (
  DELETE FROM public.traceflow_ux_issue_visitors AS link
  USING public.traceflow_ux_issues AS issue, public.traceflow_erasures AS erasure
  WHERE erasure.id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, 'visitor', %(id)s)
    AND link.visitor_id = %(id)s AND link.first_seen_at <= erasure.erased_at
    AND issue.id = link.issue_id AND issue.project_id = erasure.project_id
    AND NOT EXISTS (
      SELECT FROM public.traceflow_ux_issue_findings AS later
      WHERE later.issue_id = link.issue_id AND later.visitor_id = link.visitor_id
        AND later.created_at > erasure.erased_at
    )
  RETURNING link.issue_id
)
UPDATE public.traceflow_ux_issues AS issue SET affected_users = greatest(0, issue.affected_users - 1)
FROM gone WHERE issue.id = gone.issue_id;

-- note_done --
-- Write into the audit log what the erasure has removed in all.
INSERT INTO public.traceflow_audit_logs (actor_id, actor_role, action, target_table, target_id, project_id, details)
SELECT
  auth.uid(), coalesce(nullif(current_setting('role', true), 'none'), session_user), 'erased', 'traceflow_erasures',
  encode(id_hash, 'hex'), project_id, jsonb_build_object('kind', kind, 'removed', removed)
FROM public.traceflow_erasures
WHERE id_hash = public.traceflow_erasure_hash(%(project_id)s::uuid, %(kind)s, %(id)s)
RETURNING details -> 'removed';

-- know_project --
-- Whether there is such a project.
SELECT EXISTS (SELECT FROM public.traceflow_projects WHERE id = %(project_id)s::uuid);
