-- What was done about dead letters: they stay in their topic, which nobody can change, so the mark lies here.
CREATE TABLE public.traceflow_dead_letter_marks (
  topic_id TEXT NOT NULL,
  stage TEXT NOT NULL,
  topic TEXT NOT NULL,
  part INTEGER NOT NULL,
  record_offset BIGINT NOT NULL,
  event_index INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('sending', 'redriven', 'dropped')),
  number BIGINT UNIQUE,
  letter_part INTEGER NOT NULL,
  letter_offset BIGINT NOT NULL,
  marked_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (topic_id, stage, topic, part, record_offset, event_index)
);

COMMENT ON TABLE public.traceflow_dead_letter_marks IS 'What was done about dead letters: one row for each that was redriven or dropped; a letter without a row waits.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.topic_id IS 'The broker''s id of the dead-letters topic: one that was made anew holds other letters.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.stage IS 'Who parked the record: gateway | digest | analyze | sink-events …';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.topic IS 'Where the parked record lies, without prefix; dead_letters for what the gateway refused before it was a record.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.part IS 'Its partition.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.record_offset IS 'Its offset.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.event_index IS 'The event''s place within it; -1 for the whole record.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.state IS 'sending: decided, perhaps in the log already; the next redrive finishes it | redriven | dropped';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.number IS 'What a redriven record carries so that its stage knows it again; grows. NULL where the effect and this row are one transaction.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.letter_part IS 'Partition of the letter itself in the dead-letters topic.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.letter_offset IS 'Its offset there.';
COMMENT ON COLUMN public.traceflow_dead_letter_marks.marked_at IS 'When it was marked last.';

ALTER TABLE public.traceflow_dead_letter_marks ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.traceflow_dead_letter_marks FROM PUBLIC, anon, authenticated;
GRANT ALL ON public.traceflow_dead_letter_marks TO service_role;
-- The sinks' code marks what it stores of a letter, in the rows' transaction.
GRANT SELECT, INSERT ON public.traceflow_dead_letter_marks TO traceflow_sink;
