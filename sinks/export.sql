-- A whole recording, as it came.

-- chunks --
-- The chunks of a session in order of window and sequence, each place once.
SELECT DISTINCT ON (window_id, seq) events::text, payload
FROM public.session_recording_chunks WHERE session_id = %(session_id)s
ORDER BY window_id, seq, chunk_day;

-- inline --
-- What lies in the recording's own row: everything of a recording that was never in chunks.
SELECT events::text FROM public.session_recordings WHERE session_id = %(session_id)s;
