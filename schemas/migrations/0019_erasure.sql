-- Erasure: visitors and sessions whose rows were removed for good, and who must not come back from Kafka.
--
-- The protocol. Every transaction of a sink holds a shared lock from before it looks into the block-list to its commit.
-- Who adds to the list takes the same lock alone, and keeps it no longer than that takes. So whoever looked before has
-- committed when the list grows, and its rows are found; whoever looks later sees what was added. Rows are removed after
-- that: nobody adds to them any more.

CREATE TABLE public.traceflow_erasures (
  id_hash BYTEA PRIMARY KEY CHECK (octet_length(id_hash) = 32),
  project_id UUID NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('visitor', 'session')),
  erased_at TIMESTAMPTZ NOT NULL,
  removed JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(removed) = 'object')
);
CREATE INDEX idx_traceflow_erasures_project ON public.traceflow_erasures(project_id, erased_at DESC);

-- Erasure looks for a session's calls of models.
CREATE INDEX idx_neurorouter_logs_session ON public.neurorouter_logs(session_id);

COMMENT ON TABLE public.traceflow_erasures IS 'The block-list of erasure: what was removed for good and is not stored again. Without it, rows come back from Kafka: only delete from it what the log has no more.';
COMMENT ON COLUMN public.traceflow_erasures.id_hash IS 'traceflow_erasure_hash() of project, kind and id: the id itself is not kept. Who knows an id can ask whether it was erased.';
COMMENT ON COLUMN public.traceflow_erasures.project_id IS 'The project; it may be gone.';
COMMENT ON COLUMN public.traceflow_erasures.kind IS 'visitor | session. A visitor''s erasure adds each of the visitor''s sessions as well.';
COMMENT ON COLUMN public.traceflow_erasures.erased_at IS 'When: what was received of a visitor later is kept; a session stays away for good.';
COMMENT ON COLUMN public.traceflow_erasures.removed IS 'Rows removed by table; a visitor''s sessions count with the visitor.';

COMMENT ON TABLE public.traceflow_audit_logs IS 'Who changed projects, members, keys, settings, subscriptions, roles or the status of an issue, or erased a visitor or session. Written by triggers and by commands.';
COMMENT ON COLUMN public.traceflow_audit_logs.action IS 'insert | update | delete, or the name of a command; erased: what erase has removed in all.';

ALTER TABLE public.traceflow_erasures ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.traceflow_erasures FROM PUBLIC, anon, authenticated;
GRANT ALL ON public.traceflow_erasures TO service_role;

CREATE FUNCTION public.traceflow_erasure_hash(project UUID, kind TEXT, id TEXT) RETURNS BYTEA
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(project::text || '/' || kind || '/' || id, 'UTF8'));

CREATE FUNCTION public.find_traceflow_erased(hashes BYTEA[]) RETURNS TABLE (id_hash BYTEA, erased_at TIMESTAMPTZ)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtext('traceflow_sinks'), hashtext('erase'));
  -- a statement of its own: it sees what was committed while the lock was waited for
  RETURN QUERY
  SELECT erasure.id_hash, erasure.erased_at
  FROM unnest(hashes) AS asked(id_hash) JOIN public.traceflow_erasures AS erasure ON erasure.id_hash = asked.id_hash;
END $$;

-- How long it may wait for the lock: meanwhile sinks that come later wait behind it.
CREATE FUNCTION public.block_traceflow_session(project UUID, session TEXT) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = '2s' AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('erase'));
  INSERT INTO public.traceflow_erasures (id_hash, project_id, kind, erased_at)
  VALUES (public.traceflow_erasure_hash(project, 'session', session), project, 'session', clock_timestamp())
  ON CONFLICT DO NOTHING;
  INSERT INTO public.traceflow_audit_logs (actor_id, actor_role, action, target_table, target_id, project_id, details)
  VALUES (
    auth.uid(), coalesce(nullif(current_setting('role', true), 'none'), session_user), 'erase', 'traceflow_erasures',
    encode(public.traceflow_erasure_hash(project, 'session', session), 'hex'), project, '{"kind": "session"}'
  );
END $$;

CREATE FUNCTION public.block_traceflow_visitor(project UUID, visitor TEXT) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = '2s' AS $$
DECLARE
  moment timestamptz;
  found_sessions integer;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('erase'));
  moment := clock_timestamp();
  INSERT INTO public.traceflow_erasures AS known (id_hash, project_id, kind, erased_at)
  VALUES (public.traceflow_erasure_hash(project, 'visitor', visitor), project, 'visitor', moment)
  ON CONFLICT (id_hash) DO UPDATE SET erased_at = excluded.erased_at;
  INSERT INTO public.traceflow_erasures (id_hash, project_id, kind, erased_at)
  SELECT public.traceflow_erasure_hash(project, 'session', of_visitor.session_id), project, 'session', moment
  FROM (
    SELECT held.session_id FROM public.traceflow_sessions AS held
    WHERE held.project_id = project AND held.visitor_id = visitor
    UNION
    SELECT held.session_id FROM public.session_recordings AS held
    WHERE held.project_id = project AND held.visitor_id = visitor
  ) AS of_visitor
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS found_sessions = ROW_COUNT;
  INSERT INTO public.traceflow_audit_logs (actor_id, actor_role, action, target_table, target_id, project_id, details)
  VALUES (
    auth.uid(), coalesce(nullif(current_setting('role', true), 'none'), session_user), 'erase', 'traceflow_erasures',
    encode(public.traceflow_erasure_hash(project, 'visitor', visitor), 'hex'), project,
    jsonb_build_object('kind', 'visitor', 'sessions', found_sessions)
  );
END $$;

-- The one place where erasure deletes events: what counts them elsewhere is to be subtracted here.
CREATE FUNCTION public.remove_traceflow_events(project UUID, sessions TEXT[]) RETURNS BIGINT
LANGUAGE sql SET search_path = '' AS $$
  WITH gone AS (
    DELETE FROM public.traceflow_events WHERE session_id = ANY (sessions) AND project_id = project RETURNING 1
  )
  SELECT count(*) FROM gone
$$;

-- Issues lose what the sessions had added: the times of their first and last finding are those of the findings left, and
-- an issue that nothing shows any more goes. Locked in the sinks' order.
CREATE FUNCTION public.remove_traceflow_findings(project UUID, sessions TEXT[]) RETURNS JSONB
LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
  removed jsonb;
BEGIN
  PERFORM FROM public.traceflow_ux_issues AS issue
  WHERE issue.project_id = project AND (
    issue.session_id = ANY (sessions)
    OR issue.id IN (SELECT issue_id FROM public.traceflow_ux_issue_findings WHERE session_id = ANY (sessions))
    OR issue.id IN (SELECT issue_id FROM public.traceflow_ux_issue_sessions WHERE session_id = ANY (sessions))
  )
  ORDER BY issue.id FOR UPDATE;
  WITH findings AS (
    DELETE FROM public.traceflow_ux_issue_findings AS link
    WHERE link.session_id = ANY (sessions) AND link.project_id = project
    RETURNING link.issue_id, link.visitor_id, link.detected_at
  ), shown AS (
    DELETE FROM public.traceflow_ux_issue_sessions AS link USING public.traceflow_ux_issues AS issue
    WHERE link.session_id = ANY (sessions) AND issue.id = link.issue_id AND issue.project_id = project
    RETURNING link.issue_id
  ), met AS (
    DELETE FROM public.traceflow_ux_issue_visitors AS link USING (SELECT DISTINCT issue_id, visitor_id FROM findings) AS gone
    WHERE link.issue_id = gone.issue_id AND link.visitor_id = gone.visitor_id AND NOT EXISTS (
      SELECT FROM public.traceflow_ux_issue_findings AS other
      WHERE other.issue_id = link.issue_id AND other.visitor_id = link.visitor_id AND other.session_id <> ALL (sessions)
    )
    RETURNING link.issue_id
  ), fewer AS (
    SELECT issue_id, sum(findings)::integer AS findings, sum(shown)::integer AS shown, sum(met)::integer AS met,
      min(first_at) AS first_at, max(last_at) AS last_at
    FROM (
      SELECT issue_id, count(*) AS findings, 0 AS shown, 0 AS met, min(detected_at) AS first_at, max(detected_at) AS last_at
      FROM findings GROUP BY issue_id
      UNION ALL SELECT issue_id, 0, count(*), 0, NULL, NULL FROM shown GROUP BY issue_id
      UNION ALL SELECT issue_id, 0, 0, count(*), NULL, NULL FROM met GROUP BY issue_id
    ) AS each_way GROUP BY issue_id
  ), changed AS (
    UPDATE public.traceflow_ux_issues AS issue SET
      occurrence_count = greatest(0, issue.occurrence_count - fewer.findings),
      affected_sessions = greatest(0, issue.affected_sessions - fewer.shown),
      affected_users = greatest(0, issue.affected_users - fewer.met),
      first_detected_at = CASE WHEN fewer.first_at <= issue.first_detected_at
        THEN coalesce(kept.first_at, issue.first_detected_at) ELSE issue.first_detected_at END,
      last_detected_at = CASE WHEN fewer.last_at >= issue.last_detected_at
        THEN coalesce(kept.last_at, issue.last_detected_at) ELSE issue.last_detected_at END
    FROM fewer CROSS JOIN LATERAL (
      SELECT min(link.detected_at) AS first_at, max(link.detected_at) AS last_at
      FROM public.traceflow_ux_issue_findings AS link
      WHERE link.issue_id = fewer.issue_id AND link.session_id <> ALL (sessions)
    ) AS kept
    WHERE issue.id = fewer.issue_id
    RETURNING issue.id
  )
  SELECT jsonb_build_object(
    'traceflow_ux_issue_findings', (SELECT count(*) FROM findings),
    'traceflow_ux_issue_sessions', (SELECT count(*) FROM shown),
    'traceflow_ux_issue_visitors', (SELECT count(*) FROM met),
    'changed', coalesce((SELECT jsonb_agg(id) FROM changed), '[]')
  ) INTO removed;
  WITH gone AS (
    DELETE FROM public.traceflow_ux_issues AS issue
    WHERE issue.id IN (SELECT id::uuid FROM jsonb_array_elements_text(removed -> 'changed') AS changed(id))
      AND issue.occurrence_count = 0
      AND NOT EXISTS (SELECT FROM public.traceflow_ux_issue_findings AS link WHERE link.issue_id = issue.id)
    RETURNING 1
  )
  SELECT removed - 'changed' || jsonb_build_object('traceflow_ux_issues', count(*)) INTO removed FROM gone;
  UPDATE public.traceflow_ux_issues AS issue SET session_id = NULL
  WHERE issue.session_id = ANY (sessions) AND issue.project_id = project;
  RETURN removed;
END $$;

-- Whatever is asked for, only what is on the list goes: a sink may call this.
CREATE FUNCTION public.remove_traceflow_sessions(project UUID, sessions TEXT[], erasure BYTEA) RETURNS JSONB
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
  blocked text[];
  gone_rows jsonb;
BEGIN
  SELECT coalesce(array_agg(wanted.session_id), '{}') INTO blocked
  FROM unnest(sessions) AS wanted(session_id)
  JOIN public.traceflow_erasures AS listed
    ON listed.id_hash = public.traceflow_erasure_hash(project, 'session', wanted.session_id);
  gone_rows := public.remove_traceflow_findings(project, blocked);
  gone_rows := gone_rows || jsonb_build_object('traceflow_events', public.remove_traceflow_events(project, blocked));
  WITH gone AS (
    DELETE FROM public.session_recording_chunks WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('session_recording_chunks', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.session_recordings WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('session_recordings', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.traceflow_ai_queue WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('traceflow_ai_queue', count(*)) INTO gone_rows FROM gone;
  -- what a call cost stays, whom it was about does not
  WITH gone AS (
    UPDATE public.neurorouter_logs SET session_id = NULL, error_message = NULL
    WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('neurorouter_logs', count(*)) INTO gone_rows FROM gone;
  WITH gone AS (
    DELETE FROM public.traceflow_sessions WHERE session_id = ANY (blocked) AND project_id = project RETURNING 1
  )
  SELECT gone_rows || jsonb_build_object('traceflow_sessions', count(*)) INTO gone_rows FROM gone;
  UPDATE public.traceflow_erasures AS counted SET removed = public.traceflow_add_counts(counted.removed, gone_rows)
  WHERE counted.id_hash = erasure;
  RETURN gone_rows;
END $$;

COMMENT ON FUNCTION public.traceflow_erasure_hash(UUID, TEXT, TEXT) IS 'What the block-list keeps of an id: SHA-256 of project, kind (visitor | session) and id.';
COMMENT ON FUNCTION public.find_traceflow_erased(BYTEA[]) IS 'Which of these hashes are on the block-list; nobody adds to it before the transaction ends.';
COMMENT ON FUNCTION public.block_traceflow_session(UUID, TEXT) IS 'Let nothing of a session be stored from now on; waits at most 2 s for sinks that are storing. Rows: remove_traceflow_sessions().';
COMMENT ON FUNCTION public.block_traceflow_visitor(UUID, TEXT) IS 'Let nothing be stored that was received of a visitor up to now, and nothing of the visitor''s sessions; waits at most 2 s for sinks that are storing.';
COMMENT ON FUNCTION public.remove_traceflow_events(UUID, TEXT[]) IS 'Remove the events and findings of sessions; returns how many. Part of remove_traceflow_sessions().';
COMMENT ON FUNCTION public.remove_traceflow_findings(UUID, TEXT[]) IS 'Remove what sessions added to UX issues, and issues that nothing shows any more; returns rows by table. Part of remove_traceflow_sessions().';
COMMENT ON FUNCTION public.remove_traceflow_sessions(UUID, TEXT[], BYTEA) IS 'Remove every row of those of the sessions that are blocked, in the session''s project; returns rows by table, and adds them to the erasure named by its hash. Calls of models stay, without session and message.';

REVOKE ALL ON FUNCTION public.find_traceflow_erased(BYTEA[]),
  public.block_traceflow_session(UUID, TEXT), public.block_traceflow_visitor(UUID, TEXT),
  public.remove_traceflow_events(UUID, TEXT[]), public.remove_traceflow_findings(UUID, TEXT[]),
  public.remove_traceflow_sessions(UUID, TEXT[], BYTEA)
  FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION public.find_traceflow_erased(BYTEA[]),
  public.block_traceflow_session(UUID, TEXT), public.remove_traceflow_sessions(UUID, TEXT[], BYTEA)
  TO traceflow_sink, service_role;
GRANT EXECUTE ON FUNCTION public.block_traceflow_visitor(UUID, TEXT) TO service_role;
