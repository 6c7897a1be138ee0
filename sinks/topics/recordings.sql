-- Recordings: a row for each chunk, and what is known of all chunks of a session.

-- taken --
-- Which chunks, by place from 1, have their place in their window taken on any of these days. The days are named, or each
-- chunk would be looked up in all of them: 15 times the CPU with 400. LIMIT keeps it a look-up by key.
SELECT wanted.place
FROM unnest(%(session_ids)s::text[], %(window_ids)s::text[], %(seqs)s::integer[])
  WITH ORDINALITY AS wanted(session_id, window_id, seq, place)
CROSS JOIN LATERAL (
  SELECT FROM public.session_recording_chunks AS stored
  WHERE stored.session_id = wanted.session_id AND stored.window_id = wanted.window_id AND stored.seq = wanted.seq
    AND stored.chunk_day BETWEEN %(first_day)s AND %(last_day)s
  LIMIT 1
) AS same;

-- insert_chunk --
-- Insert a chunk unless it is there.
INSERT INTO public.session_recording_chunks (
  session_id, window_id, seq, chunk_day, project_id, codec, events, payload, event_count, raw_size_bytes,
  first_event_at, last_event_at
)
VALUES (
  %(session_id)s, %(window_id)s, %(seq)s, %(day)s, %(project_id)s::uuid, %(codec)s, %(events)s::json, %(payload)s,
  %(event_count)s, %(raw_size_bytes)s,
  to_timestamp(%(first_event_at)s::bigint / 1000.0), to_timestamp(%(last_event_at)s::bigint / 1000.0)
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
