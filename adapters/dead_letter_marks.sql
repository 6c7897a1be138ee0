-- What was done about dead letters. A letter is named by what it is about; a letter without a row waits.

-- read --
-- All marks of one dead-letters topic.
SELECT stage, topic, part, record_offset, event_index, state, number, letter_part, letter_offset
FROM public.traceflow_dead_letter_marks WHERE topic_id = %(topic_id)s;

-- mark --
-- Mark a letter unless it is marked; waits for another transaction that is marking it.
INSERT INTO public.traceflow_dead_letter_marks (
  topic_id, stage, topic, part, record_offset, event_index, state, letter_part, letter_offset
) VALUES (
  %(topic_id)s, %(stage)s, %(topic)s, %(part)s, %(record_offset)s, %(event_index)s, %(state)s, %(letter_part)s,
  %(letter_offset)s
) ON CONFLICT DO NOTHING;

-- wait_for_turn --
-- Numbers are given in the order of commits: one transaction at a time.
SELECT pg_advisory_xact_lock(hashtext('traceflow_dead_letter_marks'));

-- number --
-- Decide to send letters, in the order given, unless they are marked. Numbers continue from the highest, and from the
-- clock in microseconds: a database that was restored from a backup gives none that a stage may have seen.
INSERT INTO public.traceflow_dead_letter_marks (
  topic_id, stage, topic, part, record_offset, event_index, state, letter_part, letter_offset, number
)
SELECT
  %(topic_id)s, asked.stage, asked.topic, asked.part, asked.record_offset, asked.event_index, 'sending',
  asked.letter_part, asked.letter_offset, base.number + asked.place
FROM unnest(
  %(stages)s::text[], %(topics)s::text[], %(parts)s::integer[], %(record_offsets)s::bigint[],
  %(event_indexes)s::integer[], %(letter_parts)s::integer[], %(letter_offsets)s::bigint[]
) WITH ORDINALITY
  AS asked(stage, topic, part, record_offset, event_index, letter_part, letter_offset, place)
CROSS JOIN (
  SELECT greatest(
    coalesce(max(number), 0), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
  ) AS number FROM public.traceflow_dead_letter_marks
) AS base
ON CONFLICT DO NOTHING;

-- sending --
-- What was decided and is not known to have landed, in the order in which it must be sent.
SELECT stage, topic, part, record_offset, event_index, state, number, letter_part, letter_offset
FROM public.traceflow_dead_letter_marks WHERE topic_id = %(topic_id)s AND state = 'sending' ORDER BY number;

-- settle --
-- Say what became of letters that were being sent.
UPDATE public.traceflow_dead_letter_marks SET state = %(state)s, marked_at = now()
WHERE number = ANY(%(numbers)s) AND state = 'sending';

-- take_back --
-- Let a dropped letter wait again.
DELETE FROM public.traceflow_dead_letter_marks
WHERE topic_id = %(topic_id)s AND stage = %(stage)s AND topic = %(topic)s AND part = %(part)s
  AND record_offset = %(record_offset)s AND event_index = %(event_index)s AND state = 'dropped';

-- prune --
-- Forget marks whose letters retention has taken.
DELETE FROM public.traceflow_dead_letter_marks AS mark
USING unnest(%(parts)s::integer[], %(lows)s::bigint[]) AS log(part, low)
WHERE mark.topic_id = %(topic_id)s AND mark.letter_part = log.part AND mark.letter_offset < log.low
  AND mark.state <> 'sending';
