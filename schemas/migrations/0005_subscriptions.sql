-- Plans, who has which, and features per user.

CREATE TABLE public.traceflow_plans (
  plan TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  sessions_limit INTEGER CHECK (sessions_limit >= 0),
  recordings_limit INTEGER CHECK (recordings_limit >= 0),
  ai_credits_limit INTEGER CHECK (ai_credits_limit >= 0),
  features JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(features) = 'array'),
  position INTEGER NOT NULL DEFAULT 0,
  available BOOLEAN NOT NULL DEFAULT true,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- The free plan has the defaults of traceflow_subscriptions; the others are a start that the owner edits.
INSERT INTO public.traceflow_plans (plan, title, sessions_limit, recordings_limit, ai_credits_limit, features, position) VALUES
  ('free', 'Free', 1000, 100, 50, '["session_replay"]', 1),
  ('starter', 'Starter', 10000, 1000, 500, '["session_replay", "heatmaps"]', 2),
  ('pro', 'Pro', 100000, 10000, 5000, '["session_replay", "heatmaps", "ai_analysis"]', 3),
  ('enterprise', 'Enterprise', NULL, NULL, NULL, '["session_replay", "heatmaps", "ai_analysis"]', 4);

CREATE TABLE public.traceflow_subscriptions (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id),

  plan TEXT NOT NULL DEFAULT 'free',
  status TEXT NOT NULL DEFAULT 'active',

  role TEXT DEFAULT 'member',

  billing_cycle TEXT DEFAULT 'monthly',
  current_period_start TIMESTAMPTZ,
  current_period_end TIMESTAMPTZ,

  sessions_limit INTEGER DEFAULT 1000,
  sessions_used INTEGER DEFAULT 0,
  recordings_limit INTEGER DEFAULT 100,
  recordings_used INTEGER DEFAULT 0,
  ai_credits_limit INTEGER DEFAULT 50,
  ai_credits_used INTEGER DEFAULT 0,

  trial_ends_at TIMESTAMPTZ,

  stripe_customer_id TEXT,
  stripe_subscription_id TEXT,

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_subscriptions_user ON public.traceflow_subscriptions(user_id);
CREATE INDEX idx_subscriptions_status ON public.traceflow_subscriptions(status);

CREATE TABLE public.traceflow_user_features (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id),

  feature_id TEXT NOT NULL,
  enabled BOOLEAN DEFAULT true,

  usage_limit INTEGER,
  current_usage INTEGER DEFAULT 0,

  enabled_at TIMESTAMPTZ DEFAULT now(),
  expires_at TIMESTAMPTZ,

  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),

  UNIQUE (user_id, feature_id)
);
