-- Roles of users in the whole installation, and the audit log.

-- Many Supabase projects have a user_roles of their own, often with an enum as role: it is used as it is.
DO $$
BEGIN
  IF to_regclass('public.user_roles') IS NULL THEN
    CREATE TABLE public.user_roles (
      user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
      role TEXT NOT NULL,
      created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
      PRIMARY KEY (user_id, role)
    );
    COMMENT ON TABLE public.user_roles IS 'Roles of users in the whole installation, beside their roles in projects.';
    COMMENT ON COLUMN public.user_roles.user_id IS 'The user.';
    COMMENT ON COLUMN public.user_roles.role IS 'admin | moderator | user. An admin sees all recordings, logs of AI calls and the audit log.';
    COMMENT ON COLUMN public.user_roles.created_at IS 'When the role was given.';
    ALTER TABLE public.user_roles ENABLE ROW LEVEL SECURITY;
    CREATE POLICY "Users can view own roles" ON public.user_roles FOR SELECT USING (user_id = (SELECT auth.uid()));
    REVOKE ALL ON public.user_roles FROM PUBLIC, anon, authenticated;
    GRANT SELECT ON public.user_roles TO authenticated;
    GRANT ALL ON public.user_roles TO service_role;
  END IF;
END $$;

CREATE TABLE public.traceflow_audit_logs (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  actor_id UUID,
  actor_role TEXT NOT NULL,
  action TEXT NOT NULL,
  target_table TEXT,
  target_id TEXT,
  project_id UUID,
  details JSONB NOT NULL DEFAULT '{}',
  created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_traceflow_audit_logs_created ON public.traceflow_audit_logs(created_at DESC);
CREATE INDEX idx_traceflow_audit_logs_project ON public.traceflow_audit_logs(project_id, created_at DESC);
CREATE INDEX idx_traceflow_audit_logs_actor ON public.traceflow_audit_logs(actor_id, created_at DESC);
