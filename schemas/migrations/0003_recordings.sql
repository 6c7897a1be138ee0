-- Session recordings: one row of metadata a session, and one row a chunk as the SDK sent it. Appending to one JSONB would
-- be quadratic: 20 chunks of 1 MB in all wrote 4.6 MB of WAL.

CREATE TABLE public.session_recordings (
  id UUID NOT NULL DEFAULT gen_random_uuid(),
  session_id TEXT NOT NULL,

  events JSONB NOT NULL DEFAULT '[]',

  duration_ms INTEGER,
  event_count INTEGER,
  page_count INTEGER,
  pages_visited JSONB DEFAULT '[]',

  user_agent TEXT,
  device_fingerprint TEXT,
  visitor_id TEXT,

  ip_address TEXT,
  geolocation JSONB,

  start_time TIMESTAMPTZ NOT NULL DEFAULT now(),
  end_time TIMESTAMPTZ,

  compressed BOOLEAN DEFAULT false,
  storage_size_bytes INTEGER,

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract
  project_id UUID,
  PRIMARY KEY (id, session_id)
) PARTITION BY HASH (session_id);

-- Before the partitions are made: they take the parent's compression over, a later change would not reach them.
DO $$
BEGIN
  IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
    ALTER TABLE public.session_recordings ALTER COLUMN events SET COMPRESSION lz4;
  END IF;
  FOR remainder IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE traceflow_parts.%I PARTITION OF public.session_recordings FOR VALUES WITH (MODULUS 8, REMAINDER %s)
       WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)', 'session_recordings_h' || remainder, remainder);
  END LOOP;
END $$;

CREATE UNIQUE INDEX idx_session_recordings_session ON public.session_recordings(session_id);
CREATE INDEX idx_session_recordings_visitor ON public.session_recordings(visitor_id);
CREATE INDEX idx_session_recordings_start ON public.session_recordings(start_time DESC);

-- The day of a chunk is that of its first event, in UTC: a chunk sent twice finds itself again, whenever it arrives.
CREATE TABLE public.session_recording_chunks (
  session_id TEXT NOT NULL,
  window_id TEXT NOT NULL DEFAULT '',
  seq INTEGER NOT NULL CHECK (seq >= 0),
  chunk_day DATE NOT NULL,
  project_id UUID,
  codec TEXT NOT NULL CHECK (codec IN ('json', 'gzip', 'zstd')),
  events JSON,
  payload BYTEA,
  event_count INTEGER NOT NULL DEFAULT 0,
  raw_size_bytes INTEGER NOT NULL,
  first_event_at TIMESTAMPTZ,
  last_event_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CHECK ((codec = 'json') = (events IS NOT NULL) AND (codec <> 'json') = (payload IS NOT NULL)),
  PRIMARY KEY (session_id, window_id, seq, chunk_day)
) PARTITION BY RANGE (chunk_day);

-- payload is compressed already: TOAST must not try again.
ALTER TABLE public.session_recording_chunks ALTER COLUMN payload SET STORAGE EXTERNAL;
DO $$
BEGIN
  IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
    ALTER TABLE public.session_recording_chunks ALTER COLUMN events SET COMPRESSION lz4;
  END IF;
END $$;
