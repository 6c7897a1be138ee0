-- What an operator does about a log that lost something.

-- places --
-- Where a sink stands in each partition of the topic that the broker has now.
SELECT part, next_offset, updated_at FROM public.traceflow_sink_offsets
WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id = %(topic_id)s
ORDER BY part;

-- accept --
-- Move an offset from where it was seen to where the sink may go on, fence its owner, and write down what was lost.
WITH moved AS (
  UPDATE public.traceflow_sink_offsets
  SET next_offset = %(goes_on_at)s, epoch = epoch + 1, updated_at = now()
  WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id = %(topic_id)s AND part = %(part)s
    AND next_offset = %(stored)s
  RETURNING sink, topic, part
)
INSERT INTO public.traceflow_audit_logs (actor_role, action, target_table, target_id, details)
SELECT
  coalesce(nullif(current_setting('role', true), 'none'), session_user), 'accept_loss', 'traceflow_sink_offsets',
  concat_ws('/', sink, topic, part),
  jsonb_build_object(
    'next_offset', jsonb_build_object('old', %(stored)s::bigint, 'new', %(goes_on_at)s::bigint),
    'log_begins', %(log_begins)s::bigint, 'log_ends', %(log_ends)s::bigint, 'lost', %(lost)s::bigint
  )
FROM moved;
