-- UX issues: what is wrong with a page, counted by the findings that show it.

-- issues --
-- Make the issues that are new and lock all of them, in the order of their key; returns id and key.
INSERT INTO public.traceflow_ux_issues AS issue (
  id, project_id, issue_type, page_url, element_selector, fingerprint, session_id, severity, component,
  occurrence_count, affected_sessions, affected_users, first_detected_at, last_detected_at
)
SELECT
  id, project_id, issue_type, page_url, element_selector, fingerprint, session_id, severity, component,
  0, 0, 0, to_timestamp(detected_at / 1000.0), to_timestamp(detected_at / 1000.0)
FROM unnest(
  %(ids)s::uuid[], %(project_ids)s::uuid[], %(issue_types)s::text[], %(page_urls)s::text[], %(selectors)s::text[],
  %(fingerprints)s::text[], %(session_ids)s::text[], %(severities)s::text[], %(components)s::text[],
  %(detected_at)s::bigint[]
) AS found(
  id, project_id, issue_type, page_url, element_selector, fingerprint, session_id, severity, component, detected_at
)
ORDER BY id
ON CONFLICT (project_id, issue_type, md5(page_url), md5(element_selector), fingerprint)
DO UPDATE SET occurrence_count = issue.occurrence_count
RETURNING id::text, project_id::text, issue_type, page_url, element_selector, fingerprint;

-- link_findings --
-- Link the findings that are new to their issues; returns their ids.
INSERT INTO public.traceflow_ux_issue_findings (
  finding_id, issue_id, project_id, session_id, visitor_id, detected_at
)
SELECT finding_id, issue_id, project_id, session_id, visitor_id, to_timestamp(detected_at / 1000.0)
FROM unnest(
  %(finding_ids)s::uuid[], %(issue_ids)s::uuid[], %(project_ids)s::uuid[], %(session_ids)s::text[],
  %(visitor_ids)s::text[], %(detected_at)s::bigint[]
) AS found(finding_id, issue_id, project_id, session_id, visitor_id, detected_at)
ORDER BY finding_id
ON CONFLICT DO NOTHING
RETURNING finding_id::text;

-- link_sessions --
-- Note the sessions that show an issue for the first time; returns how many for each issue.
WITH linked AS (
  INSERT INTO public.traceflow_ux_issue_sessions (issue_id, session_id)
  SELECT DISTINCT issue_id, session_id
  FROM unnest(%(issue_ids)s::uuid[], %(session_ids)s::text[]) AS found(issue_id, session_id)
  ORDER BY issue_id, session_id
  ON CONFLICT DO NOTHING
  RETURNING issue_id
)
SELECT issue_id::text, count(*) FROM linked GROUP BY issue_id;

-- link_visitors --
-- Note the visitors that meet an issue for the first time; returns how many for each issue.
WITH linked AS (
  INSERT INTO public.traceflow_ux_issue_visitors (issue_id, visitor_id)
  SELECT DISTINCT issue_id, visitor_id
  FROM unnest(%(issue_ids)s::uuid[], %(visitor_ids)s::text[]) AS found(issue_id, visitor_id)
  WHERE visitor_id IS NOT NULL
  ORDER BY issue_id, visitor_id
  ON CONFLICT DO NOTHING
  RETURNING issue_id
)
SELECT issue_id::text, count(*) FROM linked GROUP BY issue_id;

-- grow --
-- Add the new findings to their issues; one that was resolved before it occurred again is open again.
UPDATE public.traceflow_ux_issues AS issue SET
  occurrence_count = coalesce(issue.occurrence_count, 0) + added.findings,
  affected_sessions = coalesce(issue.affected_sessions, 0) + added.sessions,
  affected_users = coalesce(issue.affected_users, 0) + added.visitors,
  first_detected_at = least(issue.first_detected_at, to_timestamp(added.first_at / 1000.0)),
  last_detected_at = greatest(issue.last_detected_at, to_timestamp(added.last_at / 1000.0)),
  severity = CASE
    WHEN array_position(ARRAY['low', 'medium', 'high', 'critical'], added.severity)
       > coalesce(array_position(ARRAY['low', 'medium', 'high', 'critical'], issue.severity), 0)
    THEN added.severity ELSE issue.severity END,
  component = coalesce(issue.component, added.component),
  status = CASE WHEN reopened.yes THEN 'open' ELSE issue.status END,
  resolved_at = CASE WHEN reopened.yes THEN NULL ELSE issue.resolved_at END,
  resolved_by = CASE WHEN reopened.yes THEN NULL ELSE issue.resolved_by END
FROM unnest(
  %(ids)s::uuid[], %(findings)s::integer[], %(sessions)s::integer[], %(visitors)s::integer[], %(first_at)s::bigint[],
  %(last_at)s::bigint[], %(severities)s::text[], %(components)s::text[]
) AS added(id, findings, sessions, visitors, first_at, last_at, severity, component)
JOIN public.traceflow_ux_issues AS present ON present.id = added.id
CROSS JOIN LATERAL (
  SELECT present.status = 'resolved'
    AND to_timestamp(added.last_at / 1000.0) > coalesce(present.resolved_at, '-infinity') AS yes
) AS reopened
WHERE issue.id = added.id;
