-- Projects, their keys and their settings. A project without settings has the defaults, as version 0.

-- by_key --
-- Give what the gateway knows of every usable key, with the routes for which its owner's plan is used up: all without
-- sessions left, that of recordings without recordings left.
SELECT k.key_hash,
       k.project_id::text,
       coalesce(s.version, 0),
       coalesce(s.settings, '{}'),
       array_remove(ARRAY[
         CASE WHEN may.sessions_used >= may.sessions_limit THEN 'events' END,
         CASE WHEN may.sessions_used >= may.sessions_limit OR may.recordings_used >= may.recordings_limit
           THEN 'recordings' END
       ], NULL)
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
-- Give every project with the settings in force and the beginnings of its usable keys.
SELECT p.id::text,
       p.name,
       p.created_at,
       coalesce(s.version, 0),
       coalesce(s.settings, '{}'),
       coalesce((SELECT array_agg(k.key_prefix ORDER BY k.created_at) FROM public.traceflow_project_keys k
                 WHERE k.project_id = p.id AND k.revoked_at IS NULL), '{}')
FROM public.traceflow_projects p
LEFT JOIN LATERAL (
  SELECT version, settings FROM public.traceflow_project_settings
  WHERE project_id = p.id ORDER BY version DESC LIMIT 1
) s ON true
ORDER BY p.created_at, p.id
