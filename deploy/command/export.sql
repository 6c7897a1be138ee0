-- What `traceflow recordings export` reads.

-- materialised --
-- The events of a short recording that were put together when its session closed; no row if there is no recording.
SELECT events::text FROM public.session_recordings WHERE session_id = %(session_id)s

-- chunks --
-- The chunks of a session in order of window and sequence, each once.
SELECT DISTINCT ON (window_id, seq) codec, events::text, payload
FROM public.session_recording_chunks WHERE session_id = %(session_id)s
ORDER BY window_id, seq, chunk_day
