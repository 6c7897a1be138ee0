-- Count what became of the events and chunks of a log.

-- make_events --
-- The events of the log, in no order.
CREATE TEMPORARY TABLE IF NOT EXISTS accounted_events (
  project_id UUID NOT NULL, session_id TEXT NOT NULL, id UUID NOT NULL, at TIMESTAMPTZ NOT NULL,
  restamped BOOLEAN NOT NULL, parked BOOLEAN NOT NULL
);

-- make_chunks --
-- The chunks of the log, in no order.
CREATE TEMPORARY TABLE IF NOT EXISTS accounted_chunks (
  project_id UUID NOT NULL, session_id TEXT NOT NULL, window_id TEXT NOT NULL, seq INTEGER NOT NULL,
  parked BOOLEAN NOT NULL
);

-- empty --
-- Begin anew.
TRUNCATE pg_temp.accounted_events, pg_temp.accounted_chunks;

-- fill_events --
-- Take events in.
COPY pg_temp.accounted_events (project_id, session_id, id, at, restamped, parked) FROM STDIN;

-- fill_chunks --
-- Take chunks in.
COPY pg_temp.accounted_chunks (project_id, session_id, window_id, seq, parked) FROM STDIN;

-- analyze --
-- The join's plan needs to know how many there are.
ANALYZE pg_temp.accounted_events, pg_temp.accounted_chunks;

-- take_erased_events --
-- Take the events of erased sessions out; returns how many by project.
WITH erased AS (
  SELECT session.project_id, session.session_id
  FROM (SELECT DISTINCT project_id, session_id FROM pg_temp.accounted_events) AS session
  JOIN public.traceflow_erasures AS erasure
    ON erasure.id_hash = public.traceflow_erasure_hash(session.project_id, 'session', session.session_id)
), taken AS (
  DELETE FROM pg_temp.accounted_events AS event USING erased
  WHERE event.session_id = erased.session_id AND event.project_id = erased.project_id
  RETURNING event.project_id
)
SELECT project_id::text, count(*) FROM taken GROUP BY project_id;

-- take_erased_chunks --
-- Take the chunks of erased sessions out; returns how many by project.
WITH erased AS (
  SELECT session.project_id, session.session_id
  FROM (SELECT DISTINCT project_id, session_id FROM pg_temp.accounted_chunks) AS session
  JOIN public.traceflow_erasures AS erasure
    ON erasure.id_hash = public.traceflow_erasure_hash(session.project_id, 'session', session.session_id)
), taken AS (
  DELETE FROM pg_temp.accounted_chunks AS chunk USING erased
  WHERE chunk.session_id = erased.session_id AND chunk.project_id = erased.project_id
  RETURNING chunk.project_id
)
SELECT project_id::text, count(*) FROM taken GROUP BY project_id;

-- count_events --
-- By project: accepted, parked, duplicates, stored. A row is the same by id and time, and by id alone if a try of it was
-- restamped.
WITH log AS (
  SELECT project_id, sum(accepted)::bigint AS accepted, sum(parked)::bigint AS parked,
    sum(accepted - parked - rows)::bigint AS duplicates
  FROM (
    SELECT project_id, count(*) AS accepted, count(*) FILTER (WHERE parked) AS parked,
      CASE WHEN bool_or(restamped AND NOT parked) THEN 1 ELSE count(DISTINCT at) FILTER (WHERE NOT parked) END AS rows
    FROM pg_temp.accounted_events GROUP BY project_id, id
  ) AS by_id
  GROUP BY project_id
), stored AS (
  SELECT wanted.project_id, count(*) AS stored
  FROM (SELECT DISTINCT project_id, id FROM pg_temp.accounted_events WHERE NOT parked) AS wanted
  JOIN public.traceflow_events AS event ON event.id = wanted.id AND event.project_id = wanted.project_id
  GROUP BY wanted.project_id
)
SELECT log.project_id::text, log.accepted, log.parked, log.duplicates, coalesce(stored.stored, 0)
FROM log LEFT JOIN stored USING (project_id);

-- count_chunks --
-- By project: accepted, parked, duplicates, stored. A chunk is the same by its place.
WITH log AS (
  SELECT project_id,
    count(*) AS accepted,
    count(*) FILTER (WHERE parked) AS parked,
    count(*) FILTER (WHERE NOT parked)
      - count(DISTINCT (session_id, window_id, seq)) FILTER (WHERE NOT parked) AS duplicates
  FROM pg_temp.accounted_chunks GROUP BY project_id
), stored AS (
  SELECT wanted.project_id, count(*) AS stored
  FROM (SELECT DISTINCT project_id, session_id, window_id, seq FROM pg_temp.accounted_chunks WHERE NOT parked) AS wanted
  JOIN public.session_recording_chunks AS chunk USING (session_id, window_id, seq)
  WHERE chunk.project_id = wanted.project_id
  GROUP BY wanted.project_id
)
SELECT log.project_id::text, log.accepted, log.parked, log.duplicates, coalesce(stored.stored, 0)
FROM log LEFT JOIN stored USING (project_id);
