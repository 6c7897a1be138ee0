-- What has to add up after a chaos run, beside what each row has to be (deploy.load, deploy.replay).

-- totals --
-- How many rows there are, by table: with each expected row there, as many as expected are exactly these.
SELECT 'traceflow_events', count(*) FROM public.traceflow_events
UNION ALL SELECT 'traceflow_sessions', count(*) FROM public.traceflow_sessions
UNION ALL SELECT 'traceflow_ux_issue_findings', count(*) FROM public.traceflow_ux_issue_findings
UNION ALL SELECT 'traceflow_ai_queue', count(*) FROM public.traceflow_ai_queue
UNION ALL SELECT 'session_recording_chunks', count(*) FROM public.session_recording_chunks;

-- wrong_issues --
-- UX issues whose counts are not what their links say.
SELECT format('issue %s of project %s: %s', issue.id, issue.project_id, issue.issue_type)
FROM public.traceflow_ux_issues AS issue
WHERE (issue.occurrence_count, issue.affected_sessions, issue.affected_users) IS DISTINCT FROM (
  (SELECT count(*) FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id),
  (SELECT count(DISTINCT session_id) FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id),
  (SELECT count(DISTINCT visitor_id) FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id)
)
ORDER BY issue.id;

-- regressions --
-- Offsets that moved back.
SELECT format('sink-%s: the offset of partition %s moved back from %s to %s, %s times', sink, part, max(before),
  min(after), count(*))
FROM public.chaos_regressions GROUP BY sink, part ORDER BY sink, part;

-- open_sessions --
-- How many sessions there are, and how many of them are closed.
SELECT count(*), count(*) FILTER (WHERE closed) FROM public.traceflow_sessions;

-- stored --
-- Events of clients by project; findings are rows too, and have ids of version 5.
SELECT project_id::text, count(*) FROM public.traceflow_events WHERE substr(id::text, 15, 1) <> '5' GROUP BY project_id;
