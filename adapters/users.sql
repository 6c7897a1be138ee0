-- Users, as far as TraceFlow is concerned. auth.users is Supabase's where it was there first.

-- is_ours --
-- Whether auth.users is the plain table that the migrations make where there is none.
SELECT array_agg(attname::text ORDER BY attnum) = '{id,email,created_at}'
FROM pg_catalog.pg_attribute WHERE attrelid = 'auth.users'::regclass AND attnum > 0 AND NOT attisdropped

-- find --
-- Give the id of the user with this id or e-mail address.
SELECT id::text FROM auth.users AS known
WHERE id::text = lower(%(user)s) OR lower(to_jsonb(known) ->> 'email') = lower(%(user)s)

-- list --
-- Give every user with the roles in the installation, the projects that the user owns, and the plan that pays for them.
SELECT known.id::text,
       to_jsonb(known) ->> 'email',
       ARRAY(SELECT given.role::text FROM public.user_roles AS given WHERE given.user_id = known.id ORDER BY 1),
       ARRAY(SELECT owned.name FROM public.traceflow_projects AS owned WHERE owned.owner_id = known.id ORDER BY 1),
       (SELECT plan FROM public.traceflow_entitlements(known.id, now()))
FROM auth.users AS known ORDER BY 2, 1

-- add --
-- Make a user.
INSERT INTO auth.users (id, email) VALUES (coalesce(%(id)s::uuid, gen_random_uuid()), %(email)s) RETURNING id::text

-- has_role --
-- Whether the user has a role.
SELECT EXISTS (SELECT FROM public.user_roles WHERE user_id = %(id)s AND role::text = %(role)s)

-- give_role --
-- Give the user a role.
INSERT INTO public.user_roles (user_id, role) VALUES (%(id)s, %(role)s)

-- take_role --
-- Take a role from the user.
DELETE FROM public.user_roles WHERE user_id = %(id)s AND role::text = %(role)s

-- owned --
-- Name the projects that the user owns.
SELECT name FROM public.traceflow_projects WHERE owner_id = %(id)s ORDER BY 1

-- forget_resolutions --
-- Let issues no longer say that the user resolved them; the audit log does.
UPDATE public.traceflow_ux_issues SET resolved_by = NULL WHERE resolved_by = %(id)s

-- remove_features --
-- Remove the user's own features.
DELETE FROM public.traceflow_user_features WHERE user_id = %(id)s

-- remove_subscriptions --
-- Remove the user's subscriptions.
DELETE FROM public.traceflow_subscriptions WHERE user_id = %(id)s

-- remove --
-- Remove a user, and with it memberships and roles.
DELETE FROM auth.users WHERE id = %(id)s

-- set_feature --
-- Give the user a feature, or take it away, whatever the plan says.
INSERT INTO public.traceflow_user_features (user_id, feature_id, enabled, usage_limit, expires_at)
VALUES (%(id)s, %(feature)s, %(enabled)s, %(usage_limit)s, now() + %(days)s * interval '1 day')
ON CONFLICT (user_id, feature_id) DO UPDATE SET
  enabled = excluded.enabled, usage_limit = excluded.usage_limit, expires_at = excluded.expires_at

-- unset_feature --
-- Let the plan decide again.
DELETE FROM public.traceflow_user_features WHERE user_id = %(id)s AND feature_id = %(feature)s
