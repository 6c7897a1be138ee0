-- Projects, their keys and their settings. A project without settings has the defaults, as version 0.

-- by_key --
-- Give what the gateway knows of every usable key, with the routes for which its owner's plan is used up.
SELECT k.key_hash,
       k.project_id::text,
       coalesce(s.version, 0),
       coalesce(s.settings, '{}'),
       coalesce(may.limited, '{}')
FROM public.traceflow_project_keys k
JOIN public.traceflow_projects p ON p.id = k.project_id
LEFT JOIN LATERAL (
  SELECT version, settings FROM public.traceflow_project_settings
  WHERE project_id = k.project_id ORDER BY version DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL public.traceflow_entitlements(p.owner_id, now()) AS may ON true
WHERE k.revoked_at IS NULL AND (%(key_hash)s::bytea IS NULL OR k.key_hash = %(key_hash)s)

-- add_project --
-- Make a project.
INSERT INTO public.traceflow_projects (id, name) VALUES (coalesce(%(id)s, gen_random_uuid()), %(name)s) RETURNING id::text

-- lock_project --
-- Hold a project for a change, so that versions are counted by one at a time.
SELECT name FROM public.traceflow_projects WHERE id = %(id)s FOR UPDATE

-- add_key --
-- Make a key usable; only its hash is kept.
INSERT INTO public.traceflow_project_keys (project_id, key_hash, key_prefix) VALUES (%(id)s, %(key_hash)s, %(prefix)s)

-- revoke_other_keys --
-- End every key of a project but one.
UPDATE public.traceflow_project_keys SET revoked_at = now()
WHERE project_id = %(id)s AND revoked_at IS NULL AND key_hash <> %(key_hash)s

-- current_settings --
-- Give the version that is in force.
SELECT version, settings FROM public.traceflow_project_settings
WHERE project_id = %(id)s ORDER BY version DESC LIMIT 1

-- add_settings --
-- Put a new version in force.
INSERT INTO public.traceflow_project_settings (project_id, version, settings) VALUES (%(id)s, %(version)s, %(settings)s)

-- notify --
-- Tell the gateways that a project changed; delivered at commit.
SELECT pg_notify(%(channel)s, %(id)s)

-- list --
-- Give every project with the settings in force, the beginnings of its usable keys, its owner, and what the owner's plan
-- has no more of.
SELECT p.id::text,
       p.name,
       p.created_at,
       coalesce(s.version, 0),
       coalesce(s.settings, '{}'),
       coalesce((SELECT array_agg(k.key_prefix ORDER BY k.created_at) FROM public.traceflow_project_keys k
                 WHERE k.project_id = p.id AND k.revoked_at IS NULL), '{}'),
       coalesce((SELECT to_jsonb(payer) ->> 'email' FROM auth.users AS payer WHERE payer.id = p.owner_id), p.owner_id::text),
       coalesce(may.limited, '{}')
FROM public.traceflow_projects p
LEFT JOIN LATERAL public.traceflow_entitlements(p.owner_id, now()) AS may ON true
LEFT JOIN LATERAL (
  SELECT version, settings FROM public.traceflow_project_settings
  WHERE project_id = p.id ORDER BY version DESC LIMIT 1
) s ON true
ORDER BY p.created_at, p.id

-- set_owner --
-- Let a user's subscription pay for the project, or nobody's.
UPDATE public.traceflow_projects SET owner_id = %(owner)s WHERE id = %(id)s AND owner_id IS DISTINCT FROM %(owner)s::uuid

-- members --
-- Give the members of a project with their roles.
SELECT member.user_id::text, to_jsonb(known) ->> 'email', member.role, member.created_at
FROM public.traceflow_project_members AS member LEFT JOIN auth.users AS known ON known.id = member.user_id
WHERE member.project_id = %(id)s ORDER BY 2, 1

-- set_member --
-- Make a user a member of the project, or give a member another role.
INSERT INTO public.traceflow_project_members AS held (project_id, user_id, role) VALUES (%(id)s, %(user)s, %(role)s)
ON CONFLICT (user_id, project_id) DO UPDATE SET role = excluded.role WHERE held.role <> excluded.role

-- remove_member --
-- End a membership.
DELETE FROM public.traceflow_project_members WHERE project_id = %(id)s AND user_id = %(user)s
