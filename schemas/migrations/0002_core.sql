-- Projects, who may see them, their keys and settings; sessions and events.

CREATE TABLE public.traceflow_projects (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  name TEXT NOT NULL,
  owner_id UUID REFERENCES auth.users(id) ON DELETE SET NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_traceflow_projects_owner ON public.traceflow_projects(owner_id);

CREATE TABLE public.traceflow_project_members (
  project_id UUID NOT NULL REFERENCES public.traceflow_projects(id) ON DELETE CASCADE,
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, project_id)
);
CREATE INDEX idx_traceflow_project_members_project ON public.traceflow_project_members(project_id);

-- A key is stored as its hash only: who reads the table cannot send with it.
CREATE TABLE public.traceflow_project_keys (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id UUID NOT NULL REFERENCES public.traceflow_projects(id) ON DELETE CASCADE,
  key_hash BYTEA NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
  key_prefix TEXT NOT NULL,
  name TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  revoked_at TIMESTAMPTZ
);
CREATE INDEX idx_traceflow_project_keys_project ON public.traceflow_project_keys(project_id);

-- Settings are versions that never change: a session keeps the version of its first record, and a replay must find the
-- same numbers under it.
CREATE TABLE public.traceflow_project_settings (
  project_id UUID NOT NULL REFERENCES public.traceflow_projects(id) ON DELETE CASCADE,
  version INTEGER NOT NULL CHECK (version > 0),
  settings JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
  created_by UUID,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, version)
);

-- Sessions: HASH(session_id), because then UNIQUE(session_id) stays legal and an upsert with another started_at can
-- never make a second row. Retention deletes by started_at.
CREATE TABLE public.traceflow_sessions (
  id UUID NOT NULL DEFAULT gen_random_uuid(),
  session_id TEXT NOT NULL,
  project_id UUID REFERENCES public.traceflow_projects(id),
  visitor_id TEXT,

  user_agent TEXT,
  device_type TEXT,
  browser TEXT,
  os TEXT,
  screen_resolution TEXT,

  ip_address TEXT,
  country_code TEXT,
  city TEXT,
  geolocation JSONB,

  started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  ended_at TIMESTAMPTZ,
  duration_ms INTEGER,
  page_count INTEGER DEFAULT 0,
  event_count INTEGER DEFAULT 0,

  frustration_score INTEGER DEFAULT 0,
  rage_click_count INTEGER DEFAULT 0,
  dead_click_count INTEGER DEFAULT 0,
  error_count INTEGER DEFAULT 0,

  ai_analyzed BOOLEAN DEFAULT false,
  ai_summary TEXT,
  ai_root_cause TEXT,

  referrer TEXT,
  landing_page TEXT,
  pages_visited JSONB DEFAULT '[]',
  custom_properties JSONB DEFAULT '{}',

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract
  closed BOOLEAN NOT NULL DEFAULT false,
  is_bot BOOLEAN NOT NULL DEFAULT false,
  clock_skew_ms BIGINT,
  finding_counts JSONB NOT NULL DEFAULT '{}',
  version BIGINT NOT NULL DEFAULT -1,
  life BIGINT NOT NULL DEFAULT -1,
  earlier_lives JSONB NOT NULL DEFAULT '{}',
  PRIMARY KEY (id, session_id)
) PARTITION BY HASH (session_id);

-- fillfactor 70 leaves room for HOT updates: counters change with every batch, none of them but the score is indexed
-- (measured: 0.64x the CPU, half the WAL).
DO $$
BEGIN
  FOR remainder IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE traceflow_parts.%I PARTITION OF public.traceflow_sessions FOR VALUES WITH (MODULUS 8, REMAINDER %s)
       WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)', 'traceflow_sessions_h' || remainder, remainder);
  END LOOP;
END $$;

-- The index of the contract is also its UNIQUE: two indexes on one column cost 16 % of an upsert's CPU.
CREATE UNIQUE INDEX idx_traceflow_sessions_session_id ON public.traceflow_sessions(session_id);
CREATE INDEX idx_traceflow_sessions_project_id ON public.traceflow_sessions(project_id);
CREATE INDEX idx_traceflow_sessions_visitor_id ON public.traceflow_sessions(visitor_id);
CREATE INDEX idx_traceflow_sessions_started_at ON public.traceflow_sessions(started_at DESC);
CREATE INDEX idx_traceflow_sessions_frustration ON public.traceflow_sessions(frustration_score DESC);
CREATE INDEX idx_traceflow_sessions_country ON public.traceflow_sessions(country_code);

-- Events: one partition a day of event time. No DEFAULT partition (it would forbid DETACH CONCURRENTLY and make ATTACH
-- wait for every open query) and no physical foreign key to sessions (measured: 2.8 to 4.4 times the CPU a row; the
-- sinks write the session first, in the same transaction, and the trigger below refuses a plain INSERT without one).
CREATE TABLE public.traceflow_events (
  id UUID NOT NULL DEFAULT gen_random_uuid(),
  session_id TEXT NOT NULL,

  event_type TEXT NOT NULL,
  event_name TEXT,

  page_url TEXT,
  page_title TEXT,

  element_tag TEXT,
  element_id TEXT,
  element_class TEXT,
  element_text TEXT,
  element_selector TEXT,

  x_position INTEGER,
  y_position INTEGER,
  viewport_width INTEGER,
  viewport_height INTEGER,
  scroll_depth INTEGER,

  error_message TEXT,
  error_stack TEXT,

  "timestamp" TIMESTAMPTZ NOT NULL DEFAULT now(),
  time_on_page_ms INTEGER,

  metadata JSONB DEFAULT '{}',

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract: row-level security without a join
  project_id UUID,
  PRIMARY KEY (id, "timestamp")
) PARTITION BY RANGE ("timestamp");

CREATE INDEX idx_traceflow_events_session ON public.traceflow_events(session_id);
CREATE INDEX idx_traceflow_events_type ON public.traceflow_events(event_type);
CREATE INDEX idx_traceflow_events_timestamp ON public.traceflow_events("timestamp" DESC);
CREATE INDEX idx_traceflow_events_page ON public.traceflow_events(page_url);

-- lz4 costs a third of pglz's CPU; some builds lack it.
DO $$
BEGIN
  IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
    ALTER TABLE public.traceflow_events ALTER COLUMN metadata SET COMPRESSION lz4;
  END IF;
END $$;

-- How far each sink has written: in the same transaction as its rows.
CREATE TABLE public.traceflow_sink_offsets (
  sink TEXT NOT NULL,
  topic TEXT NOT NULL,
  topic_id TEXT NOT NULL DEFAULT '',
  part INTEGER NOT NULL,
  next_offset BIGINT NOT NULL,
  epoch BIGINT NOT NULL DEFAULT 0,
  owner TEXT,
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (sink, topic, topic_id, part)
) WITH (fillfactor = 50);
