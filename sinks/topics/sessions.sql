-- Snapshots of sessions: everything of a session's row but its counters, its score and what the AI wrote.

-- create_stage --
-- The staging table of this connection: a snapshot as it came, its recording's part included.
CREATE TEMPORARY TABLE IF NOT EXISTS traceflow_snapshot_stage (
  id UUID NOT NULL, session_id TEXT NOT NULL, project_id UUID NOT NULL, life BIGINT NOT NULL, version BIGINT NOT NULL,
  started_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ NOT NULL, duration_ms INTEGER NOT NULL, closed BOOLEAN NOT NULL,
  visitor_id TEXT, user_agent TEXT, device_type TEXT, browser TEXT, os TEXT, is_bot BOOLEAN NOT NULL,
  screen_resolution TEXT, ip_address TEXT, country_code TEXT, city TEXT, geolocation JSONB, referrer TEXT,
  landing_page TEXT, page_count INTEGER NOT NULL, pages_visited JSONB NOT NULL, custom_properties JSONB NOT NULL,
  clock_skew_ms BIGINT, recording_start TIMESTAMPTZ, recording_end TIMESTAMPTZ, recording_duration_ms INTEGER,
  recording_event_count INTEGER, recording_page_count INTEGER, recording_pages JSONB, device_fingerprint TEXT
) ON COMMIT DELETE ROWS;

-- empty_stage --
-- Begin with an empty staging table: a transaction uses it once for each life of a session.
TRUNCATE pg_temp.traceflow_snapshot_stage;

-- copy_staged --
-- Snapshots into the staging table.
COPY pg_temp.traceflow_snapshot_stage (
  id, session_id, project_id, life, version, started_at, ended_at, duration_ms, closed, visitor_id, user_agent,
  device_type, browser, os, is_bot, screen_resolution, ip_address, country_code, city, geolocation, referrer,
  landing_page, page_count, pages_visited, custom_properties, clock_skew_ms, recording_start, recording_end,
  recording_duration_ms, recording_event_count, recording_page_count, recording_pages, device_fingerprint
) FROM STDIN;

-- upsert_sessions --
-- Let each snapshot that is newer than its row's replace it. A snapshot of a new life is added to the totals of the
-- lives before: earliest start, latest end, pages of all; these totals stay in earlier_lives until the next life.
INSERT INTO public.traceflow_sessions AS held (
  id, session_id, project_id, life, version, started_at, ended_at, duration_ms, closed, visitor_id, user_agent,
  device_type, browser, os, is_bot, screen_resolution, ip_address, country_code, city, geolocation, referrer,
  landing_page, page_count, pages_visited, custom_properties, clock_skew_ms
)
SELECT
  staged.id, session_id, project_id, life, version, started_at, ended_at, duration_ms, closed, visitor_id, user_agent,
  device_type, browser, os, is_bot, screen_resolution, ip_address, country_code, city, geolocation, referrer,
  landing_page, page_count, pages_visited, custom_properties, clock_skew_ms
FROM pg_temp.traceflow_snapshot_stage AS staged
JOIN public.traceflow_projects AS project ON project.id = staged.project_id
ORDER BY session_id
ON CONFLICT (session_id) DO UPDATE SET
  life = excluded.life,
  version = excluded.version,
  closed = excluded.closed,
  is_bot = excluded.is_bot,
  visitor_id = coalesce(excluded.visitor_id, held.visitor_id),
  user_agent = coalesce(excluded.user_agent, held.user_agent),
  device_type = coalesce(excluded.device_type, held.device_type),
  browser = coalesce(excluded.browser, held.browser),
  os = coalesce(excluded.os, held.os),
  screen_resolution = coalesce(excluded.screen_resolution, held.screen_resolution),
  ip_address = coalesce(excluded.ip_address, held.ip_address),
  country_code = coalesce(excluded.country_code, held.country_code),
  city = coalesce(excluded.city, held.city),
  geolocation = coalesce(excluded.geolocation, held.geolocation),
  clock_skew_ms = coalesce(excluded.clock_skew_ms, held.clock_skew_ms),
  (earlier_lives, started_at, ended_at, duration_ms, page_count, pages_visited, referrer, landing_page,
   custom_properties) = (
    SELECT
      earlier.lives,
      span.started_at,
      span.ended_at,
      CASE WHEN earlier.lives = '{}' THEN excluded.duration_ms ELSE
        least(2147483647, extract(epoch FROM span.ended_at - span.started_at) * 1000)::integer END,
      excluded.page_count + coalesce((earlier.lives ->> 'page_count')::integer, 0),
      CASE WHEN earlier.lives = '{}' THEN excluded.pages_visited ELSE (
        SELECT coalesce(jsonb_agg(page ORDER BY place), '[]') FROM (
          SELECT page, min(place) AS place
          FROM jsonb_array_elements((earlier.lives -> 'pages_visited') || excluded.pages_visited)
            WITH ORDINALITY AS visited(page, place)
          GROUP BY page ORDER BY place LIMIT 200
        ) AS first_visits
      ) END,
      coalesce(earlier.lives ->> 'referrer', excluded.referrer),
      coalesce(earlier.lives ->> 'landing_page', excluded.landing_page),
      coalesce(earlier.lives -> 'custom_properties', '{}') || excluded.custom_properties
    FROM (
      SELECT CASE
        WHEN held.life < 0 THEN '{}'
        WHEN excluded.life = held.life THEN held.earlier_lives
        ELSE jsonb_strip_nulls(jsonb_build_object(
          'started_at', held.started_at, 'ended_at', held.ended_at, 'page_count', held.page_count,
          'referrer', held.referrer, 'landing_page', held.landing_page,
          'recording', (
            SELECT jsonb_build_object('start_time', recording.start_time, 'end_time', recording.end_time,
              'event_count', recording.event_count, 'page_count', recording.page_count)
            FROM public.session_recordings AS recording WHERE recording.session_id = held.session_id
          )
        )) || jsonb_build_object(
          'pages_visited', coalesce(held.pages_visited, '[]'),
          'custom_properties', coalesce(held.custom_properties, '{}'),
          'recording_pages', coalesce((
            SELECT recording.pages_visited FROM public.session_recordings AS recording
            WHERE recording.session_id = held.session_id
          ), '[]')
        )
      END AS lives
    ) AS earlier
    CROSS JOIN LATERAL (
      SELECT
        least(excluded.started_at, (earlier.lives ->> 'started_at')::timestamptz) AS started_at,
        greatest(excluded.ended_at, (earlier.lives ->> 'ended_at')::timestamptz) AS ended_at
    ) AS span
  ),
  updated_at = greatest(now(), held.created_at + '1 microsecond')
WHERE held.project_id = excluded.project_id AND (excluded.life, excluded.version) > (held.life, held.version)
RETURNING session_id, created_at = updated_at;

-- update_recordings --
-- The recording's part of the snapshots that were just taken over; size and number of events are the recordings sink's.
UPDATE public.session_recordings AS held SET
  duration_ms = CASE WHEN earlier.recording IS NULL THEN staged.recording_duration_ms ELSE
    least(2147483647, extract(epoch FROM span.end_time - span.start_time) * 1000)::integer END,
  page_count = staged.recording_page_count + coalesce((earlier.recording ->> 'page_count')::integer, 0),
  pages_visited = CASE WHEN earlier.recording IS NULL THEN staged.recording_pages ELSE (
    SELECT coalesce(jsonb_agg(page ORDER BY place), '[]') FROM (
      SELECT page, min(place) AS place
      FROM jsonb_array_elements((session.earlier_lives -> 'recording_pages') || staged.recording_pages)
        WITH ORDINALITY AS visited(page, place)
      GROUP BY page ORDER BY place LIMIT 200
    ) AS first_visits
  ) END,
  user_agent = coalesce(staged.user_agent, held.user_agent),
  device_fingerprint = coalesce(staged.device_fingerprint, held.device_fingerprint),
  visitor_id = coalesce(staged.visitor_id, held.visitor_id),
  ip_address = coalesce(staged.ip_address, held.ip_address),
  geolocation = coalesce(nullif(
    jsonb_strip_nulls(jsonb_build_object('city', staged.city, 'country', staged.country_code))
      || coalesce(staged.geolocation, '{}'), '{}'), held.geolocation),
  start_time = span.start_time,
  end_time = span.end_time
FROM pg_temp.traceflow_snapshot_stage AS staged
JOIN public.traceflow_sessions AS session ON session.session_id = staged.session_id
CROSS JOIN LATERAL (SELECT session.earlier_lives -> 'recording' AS recording) AS earlier
CROSS JOIN LATERAL (
  SELECT
    least(staged.recording_start, (earlier.recording ->> 'start_time')::timestamptz) AS start_time,
    greatest(staged.recording_end, (earlier.recording ->> 'end_time')::timestamptz) AS end_time
) AS span
WHERE held.session_id = staged.session_id AND staged.session_id = ANY(%(session_ids)s);

-- lost_recordings --
-- Sessions whose row is of the staged snapshot, with a recording that has no row.
SELECT staged.session_id
FROM pg_temp.traceflow_snapshot_stage AS staged
JOIN public.traceflow_sessions AS held
  ON held.session_id = staged.session_id AND held.project_id = staged.project_id
  AND (held.life, held.version) = (staged.life, staged.version)
WHERE staged.recording_start IS NOT NULL
  AND NOT EXISTS (SELECT FROM public.session_recordings AS recording WHERE recording.session_id = staged.session_id)
ORDER BY staged.session_id;

-- recorded_days --
-- The days on which these recordings begin and end.
SELECT (min(start_time) AT TIME ZONE 'UTC')::date, (max(coalesce(end_time, start_time)) AT TIME ZONE 'UTC')::date
FROM public.session_recordings WHERE session_id = ANY(%(session_ids)s);

-- materialise --
-- Put the events of short recordings into their row, once their session has closed: the chunks that the recordings sink
-- has stored and counted, whatever a snapshot counted. A chunk that comes later takes them out again. The days of the
-- chunks are named, or each session would be looked up in all of them (with 400: 20 times the CPU); a chunk on another
-- day is missed in the count, and its recording stays in chunks.
UPDATE public.session_recordings AS held
SET events = public.session_recording_events(held.session_id, %(first_day)s, %(last_day)s), compressed = false
FROM pg_temp.traceflow_snapshot_stage AS staged
CROSS JOIN LATERAL (
  SELECT sum(chunk.raw_size_bytes::bigint) AS size_bytes, sum(chunk.event_count) AS events,
    bool_and(chunk.codec = 'json') AS readable
  FROM public.session_recording_chunks AS chunk
  WHERE chunk.session_id = staged.session_id AND chunk.chunk_day BETWEEN %(first_day)s AND %(last_day)s
) AS chunks
WHERE held.session_id = staged.session_id AND staged.session_id = ANY(%(session_ids)s)
  AND staged.closed AND held.events = '[]'
  AND chunks.readable AND chunks.size_bytes <= %(max_size_bytes)s
  AND chunks.events = held.event_count;
