-- Where each sink stands in each partition: written in the rows' transaction, fenced by the epoch.

-- other_topic_ids --
-- Ids under which this sink has offsets of a topic of the same name that is not this one.
SELECT DISTINCT topic_id FROM public.traceflow_sink_offsets
WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id <> %(topic_id)s;

-- first_sight --
-- Begin a partition that this sink has never read at the first offset that the broker has.
INSERT INTO public.traceflow_sink_offsets (sink, topic, topic_id, part, next_offset)
SELECT %(sink)s, %(topic)s, %(topic_id)s, part, next_offset
FROM unnest(%(parts)s::integer[], %(starts)s::bigint[]) AS seen(part, next_offset)
ON CONFLICT DO NOTHING;

-- take_over --
-- Raise the epoch, so that every batch of a former owner fails from now on, and learn where to go on.
UPDATE public.traceflow_sink_offsets
SET epoch = epoch + 1, owner = %(owner)s
WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id = %(topic_id)s AND part = ANY(%(parts)s)
RETURNING part, next_offset, epoch;

-- owners --
-- Who is written down as the owner of these partitions.
SELECT DISTINCT owner FROM public.traceflow_sink_offsets
WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id = %(topic_id)s AND part = ANY(%(parts)s) AND owner IS NOT NULL;

-- end_connections --
-- End other connections of these names: a frozen one holds its locks, and no timeout frees them.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND application_name = ANY(%(names)s);

-- is_at_work --
-- Whether the server is at work for a connection of this name.
SELECT EXISTS (
  SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = %(owner)s AND state = 'active'
);

-- advance --
-- Compare and swap: move each partition from where the batch begins to where it ends, if the epoch is still ours.
UPDATE public.traceflow_sink_offsets AS stored
SET next_offset = batch.next_offset, updated_at = now()
FROM unnest(%(parts)s::integer[], %(starts)s::bigint[], %(ends)s::bigint[], %(epochs)s::bigint[])
  AS batch(part, expected, next_offset, epoch)
WHERE stored.sink = %(sink)s AND stored.topic = %(topic)s AND stored.topic_id = %(topic_id)s
  AND stored.part = batch.part AND stored.next_offset = batch.expected AND stored.epoch = batch.epoch;

-- standing --
-- Where the partitions stand and under which epoch: settles whether a commit in doubt was done.
SELECT part, next_offset, epoch FROM public.traceflow_sink_offsets
WHERE sink = %(sink)s AND topic = %(topic)s AND topic_id = %(topic_id)s AND part = ANY(%(parts)s);
