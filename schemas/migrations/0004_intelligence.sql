-- UX issues and what they were found by, the queue of AI jobs, the neurorouter.

-- session_id is the first session that showed the issue; it may be pruned before the issue is.
CREATE TABLE public.traceflow_ux_issues (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  session_id TEXT REFERENCES public.traceflow_sessions(session_id) ON DELETE SET NULL,
  project_id UUID REFERENCES public.traceflow_projects(id),

  issue_type TEXT NOT NULL,
  severity TEXT NOT NULL DEFAULT 'medium',

  page_url TEXT,
  component TEXT,
  element_selector TEXT,

  occurrence_count INTEGER DEFAULT 1,
  first_detected_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  last_detected_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  ai_description TEXT,
  ai_recommendation TEXT,
  ai_confidence DECIMAL(3,2),
  ai_code_suggestion TEXT,

  affected_sessions INTEGER DEFAULT 0,
  affected_users INTEGER DEFAULT 0,
  estimated_revenue_impact DECIMAL(10,2),

  status TEXT DEFAULT 'open',
  resolved_at TIMESTAMPTZ,
  resolved_by UUID REFERENCES auth.users(id),

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract: tells errors of one page apart
  fingerprint TEXT
);
CREATE INDEX idx_ux_issues_project ON public.traceflow_ux_issues(project_id);
CREATE INDEX idx_ux_issues_type ON public.traceflow_ux_issues(issue_type);
CREATE INDEX idx_ux_issues_severity ON public.traceflow_ux_issues(severity);
CREATE INDEX idx_ux_issues_status ON public.traceflow_ux_issues(status);
CREATE INDEX idx_ux_issues_session ON public.traceflow_ux_issues(session_id);
-- One issue per project, type, page and element (an error: and fingerprint). Page and selector by their hash: both as
-- text can exceed what a B-tree entry holds (2,704 bytes), and then the row would be refused.
CREATE UNIQUE INDEX idx_ux_issues_key ON public.traceflow_ux_issues
  (project_id, issue_type, md5(page_url), md5(element_selector), fingerprint) NULLS NOT DISTINCT;

-- One row a finding: an issue's counters grow by the rows that were really inserted here, never by what was received.
CREATE TABLE public.traceflow_ux_issue_findings (
  finding_id UUID PRIMARY KEY,
  issue_id UUID NOT NULL REFERENCES public.traceflow_ux_issues(id) ON DELETE CASCADE,
  project_id UUID,
  session_id TEXT NOT NULL,
  visitor_id TEXT,
  detected_at TIMESTAMPTZ NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_ux_issue_findings_issue ON public.traceflow_ux_issue_findings(issue_id, detected_at DESC);
CREATE INDEX idx_ux_issue_findings_session ON public.traceflow_ux_issue_findings(session_id);

CREATE TABLE public.traceflow_ux_issue_sessions (
  issue_id UUID NOT NULL REFERENCES public.traceflow_ux_issues(id) ON DELETE CASCADE,
  session_id TEXT NOT NULL,
  first_seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (issue_id, session_id)
);
CREATE INDEX idx_ux_issue_sessions_session ON public.traceflow_ux_issue_sessions(session_id);

CREATE TABLE public.traceflow_ux_issue_visitors (
  issue_id UUID NOT NULL REFERENCES public.traceflow_ux_issues(id) ON DELETE CASCADE,
  visitor_id TEXT NOT NULL,
  first_seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (issue_id, visitor_id)
);

CREATE TABLE public.traceflow_ai_queue (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  session_id TEXT NOT NULL,

  task_type TEXT NOT NULL,
  priority INTEGER DEFAULT 5,

  status TEXT DEFAULT 'pending',
  attempts INTEGER DEFAULT 0,
  max_attempts INTEGER DEFAULT 3,

  started_at TIMESTAMPTZ,
  completed_at TIMESTAMPTZ,
  error_message TEXT,

  input_data JSONB,
  result JSONB,

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract: whose job it is
  project_id UUID
);
CREATE INDEX idx_ai_queue_status ON public.traceflow_ai_queue(status);
CREATE INDEX idx_ai_queue_priority ON public.traceflow_ai_queue(priority ASC, created_at ASC);
CREATE INDEX idx_ai_queue_session ON public.traceflow_ai_queue(session_id);

CREATE TABLE public.neurorouter_logs (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),

  task_type TEXT NOT NULL,
  model_selected TEXT NOT NULL,
  provider TEXT NOT NULL,

  latency_ms INTEGER,
  input_tokens INTEGER,
  output_tokens INTEGER,
  total_tokens INTEGER,

  cost_estimate DECIMAL(10,6),

  success BOOLEAN DEFAULT true,
  error_message TEXT,

  session_id TEXT,
  user_id UUID,

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  -- beyond the contract: whose call it was
  project_id UUID
);
CREATE INDEX idx_neurorouter_logs_model ON public.neurorouter_logs(model_selected);
CREATE INDEX idx_neurorouter_logs_task ON public.neurorouter_logs(task_type);
CREATE INDEX idx_neurorouter_logs_created ON public.neurorouter_logs(created_at DESC);

-- Which model may do which task, in which order.
CREATE TABLE public.neurorouter_routes (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  task_type TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  priority INTEGER NOT NULL DEFAULT 100 CHECK (priority > 0),
  enabled BOOLEAN NOT NULL DEFAULT true,
  input_cost_per_million_tokens DECIMAL(10,4) NOT NULL DEFAULT 0,
  output_cost_per_million_tokens DECIMAL(10,4) NOT NULL DEFAULT 0,
  max_output_tokens INTEGER,
  timeout_ms INTEGER NOT NULL DEFAULT 60000 CHECK (timeout_ms > 0),
  options JSONB NOT NULL DEFAULT '{}',
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  UNIQUE (task_type, provider, model)
);
CREATE INDEX idx_neurorouter_routes_task ON public.neurorouter_routes(task_type, priority);
