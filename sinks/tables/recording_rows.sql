-- Rows of session_recordings, which two sinks write: chunks come to one, snapshots to the other.

-- make --
-- Make the recordings that do not exist yet, and return those.
INSERT INTO public.session_recordings (id, session_id, project_id, event_count, storage_size_bytes, start_time)
SELECT id, session_id, project_id, 0, 0, to_timestamp(start_time / 1000.0)
FROM unnest(%(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(start_times)s::bigint[])
  AS wanted(id, session_id, project_id, start_time)
ORDER BY session_id
ON CONFLICT (session_id) DO NOTHING
RETURNING session_id;

-- lock --
-- Lock the recordings in one order, so that the two sinks never wait for each other in a circle.
SELECT FROM public.session_recordings WHERE session_id = ANY(%(session_ids)s::text[])
ORDER BY session_id FOR NO KEY UPDATE;
