-- Recordings: a row for each chunk, and what is known of all chunks of a session.

-- insert_chunk --
-- Insert a chunk unless its place in its window is taken, on whatever day.
INSERT INTO public.session_recording_chunks (
  session_id, window_id, seq, chunk_day, project_id, codec, events, payload, event_count, raw_size_bytes,
  first_event_at, last_event_at
)
SELECT
  %(session_id)s, %(window_id)s, %(seq)s, %(day)s, %(project_id)s::uuid, %(codec)s, %(events)s::json, %(payload)s,
  %(event_count)s, %(raw_size_bytes)s,
  to_timestamp(%(first_event_at)s::bigint / 1000.0), to_timestamp(%(last_event_at)s::bigint / 1000.0)
WHERE NOT EXISTS (
  SELECT FROM public.session_recording_chunks AS stored
  WHERE stored.session_id = %(session_id)s AND stored.window_id = %(window_id)s AND stored.seq = %(seq)s
)
ON CONFLICT DO NOTHING
RETURNING true;

-- grow --
-- Add the chunks that were really inserted to their recordings; what was put together of one is out of date with them.
-- Who and when are guesses until the session's first snapshot tells.
UPDATE public.session_recordings AS held SET
  event_count = coalesce(held.event_count, 0) + added.event_count,
  storage_size_bytes = least(coalesce(held.storage_size_bytes, 0) + added.size_bytes, 2147483647),
  compressed = coalesce(held.compressed, false) OR added.compressed,
  visitor_id = coalesce(held.visitor_id, added.visitor_id),
  user_agent = coalesce(held.user_agent, added.user_agent),
  ip_address = coalesce(held.ip_address, added.ip_address),
  end_time = coalesce(held.end_time, to_timestamp(added.last_at / 1000.0)),
  events = '[]'
FROM unnest(
  %(session_ids)s::text[], %(event_counts)s::integer[], %(sizes)s::bigint[], %(compressed)s::boolean[],
  %(visitor_ids)s::text[], %(user_agents)s::text[], %(ips)s::text[], %(last_at)s::bigint[]
) AS added(session_id, event_count, size_bytes, compressed, visitor_id, user_agent, ip_address, last_at)
WHERE held.session_id = added.session_id;
