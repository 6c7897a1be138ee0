-- Compare what clients were promised with what Postgres holds. Each query is one statement, so one snapshot.

-- make_sessions --
-- The sessions of the ledger.
CREATE TEMPORARY TABLE expected_sessions (session_id text PRIMARY KEY);

-- make_events --
-- Events by the id and time that they must have; those of unknown outcome may be there or not.
CREATE TEMPORARY TABLE expected_events (
  session_id text NOT NULL, id uuid NOT NULL, at timestamptz NOT NULL, acknowledged boolean NOT NULL
);

-- make_chunks --
-- Recording chunks by their place.
CREATE TEMPORARY TABLE expected_chunks (
  session_id text NOT NULL, window_id text NOT NULL, seq integer NOT NULL, event_count integer NOT NULL,
  acknowledged boolean NOT NULL
);

-- fill_sessions --
-- Take in the ledger's sessions.
COPY expected_sessions (session_id) FROM STDIN;

-- fill_events --
-- Take in the ledger's events.
COPY expected_events (session_id, id, at, acknowledged) FROM STDIN;

-- fill_chunks --
-- Take in the ledger's chunks.
COPY expected_chunks (session_id, window_id, seq, event_count, acknowledged) FROM STDIN;

-- index_events --
-- The anti-join of unexpected rows looks events up by id.
CREATE INDEX ON expected_events (id);

-- missing_events --
-- Acknowledged events without their row: how many, and some of them.
SELECT count(*), (array_agg(format('%s of %s', x.id, x.session_id)))[1:5]
FROM expected_events AS x
WHERE x.acknowledged AND NOT EXISTS (
  SELECT FROM public.traceflow_events AS e
  WHERE e.id = x.id AND e."timestamp" = x.at AND e.session_id = x.session_id
);

-- repeated_events --
-- Rows of the sessions that have another row's id: how many, and some of the ids.
SELECT coalesce(sum(times - 1), 0), (array_agg(format('%s of %s', id, session_id)))[1:5]
FROM (
  SELECT e.session_id, e.id, count(*) AS times
  FROM public.traceflow_events AS e JOIN expected_sessions USING (session_id)
  GROUP BY e.session_id, e.id HAVING count(*) > 1
) AS repeated;

-- unexpected_events --
-- Rows that nobody sent. Findings are rows too; their ids are UUIDs of version 5, a client's event has none such.
SELECT count(*), (array_agg(format('%s %s of %s', e.event_type, e.id, e.session_id)))[1:5]
FROM public.traceflow_events AS e JOIN expected_sessions USING (session_id)
WHERE substr(e.id::text, 15, 1) <> '5' AND NOT EXISTS (SELECT FROM expected_events AS x WHERE x.id = e.id);

-- missing_chunks --
-- Acknowledged chunks without a row that holds all their rrweb events: how many, and some of them.
SELECT count(*), (array_agg(format('%s of %s', x.seq, x.session_id)))[1:5]
FROM expected_chunks AS x
WHERE x.acknowledged AND NOT EXISTS (
  SELECT FROM public.session_recording_chunks AS c
  WHERE c.session_id = x.session_id AND c.window_id = x.window_id AND c.seq = x.seq AND c.event_count = x.event_count
);

-- repeated_chunks --
-- Rows at a place where another row is: how many, and some of the places.
SELECT coalesce(sum(times - 1), 0), (array_agg(format('%s of %s', seq, session_id)))[1:5]
FROM (
  SELECT c.session_id, c.window_id, c.seq, count(*) AS times
  FROM public.session_recording_chunks AS c JOIN expected_sessions USING (session_id)
  GROUP BY c.session_id, c.window_id, c.seq HAVING count(*) > 1
) AS repeated;

-- unexpected_chunks --
-- Chunks that nobody sent.
SELECT count(*), (array_agg(format('%s of %s', c.seq, c.session_id)))[1:5]
FROM public.session_recording_chunks AS c JOIN expected_sessions USING (session_id)
WHERE NOT EXISTS (
  SELECT FROM expected_chunks AS x
  WHERE x.session_id = c.session_id AND x.window_id = c.window_id AND x.seq = c.seq
);

-- wrong_counters --
-- Counters of sessions that are not what count(*) over their rows says, and scores that their counts do not give.
WITH counted AS (
  SELECT
    x.session_id,
    count(e.id) AS events,
    count(*) FILTER (WHERE e.event_type = 'error') AS error,
    count(*) FILTER (WHERE e.event_type = 'rage_click') AS rage_click,
    count(*) FILTER (WHERE e.event_type = 'dead_click') AS dead_click,
    count(*) FILTER (WHERE e.event_type = 'error_click') AS error_click,
    count(*) FILTER (WHERE e.event_type = 'form_abandonment') AS form_abandonment,
    count(*) FILTER (WHERE e.event_type = 'slow_load') AS slow_load,
    count(*) FILTER (WHERE e.event_type = 'quick_back') AS quick_back,
    count(*) FILTER (WHERE e.event_type = 'thrashed_cursor') AS thrashed_cursor
  FROM expected_sessions AS x LEFT JOIN public.traceflow_events AS e USING (session_id)
  GROUP BY x.session_id
)
SELECT session_id, counter, stored, counted
FROM counted AS c
LEFT JOIN public.traceflow_sessions AS s USING (session_id)
CROSS JOIN LATERAL (VALUES
  ('event_count', s.event_count, c.events),
  ('rage_click_count', s.rage_click_count, c.rage_click),
  ('dead_click_count', s.dead_click_count, c.dead_click),
  ('error_count', s.error_count, c.error),
  ('finding_counts.error', coalesce((s.finding_counts ->> 'error')::integer, 0), c.error),
  ('finding_counts.rage_click', coalesce((s.finding_counts ->> 'rage_click')::integer, 0), c.rage_click),
  ('finding_counts.dead_click', coalesce((s.finding_counts ->> 'dead_click')::integer, 0), c.dead_click),
  ('finding_counts.error_click', coalesce((s.finding_counts ->> 'error_click')::integer, 0), c.error_click),
  ('finding_counts.form_abandonment', coalesce((s.finding_counts ->> 'form_abandonment')::integer, 0),
   c.form_abandonment),
  ('finding_counts.slow_load', coalesce((s.finding_counts ->> 'slow_load')::integer, 0), c.slow_load),
  ('finding_counts.quick_back', coalesce((s.finding_counts ->> 'quick_back')::integer, 0), c.quick_back),
  ('finding_counts.thrashed_cursor', coalesce((s.finding_counts ->> 'thrashed_cursor')::integer, 0),
   c.thrashed_cursor),
  ('frustration_score', s.frustration_score, public.traceflow_frustration_score(s.finding_counts))
) AS compared (counter, stored, counted)
WHERE stored IS DISTINCT FROM counted
ORDER BY session_id, counter
LIMIT 100;
