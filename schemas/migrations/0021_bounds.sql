-- Bounds on what one wrong clock may do.

-- Retention counts back from a day that follows the clock only as fast as days pass. A clock that leaps (a server that
-- starts with a wrong one, a time source that is wrong) would else let all that is stored expire within an hour. Seven
-- days: the log keeps no longer, so sinks that stood still for less catch up by themselves.
ALTER TABLE public.traceflow_retention ADD COLUMN counted_from DATE NOT NULL DEFAULT traceflow_parts.today();
COMMENT ON COLUMN public.traceflow_retention.counted_from IS 'The day from which days are counted back, UTC: today, as far as the clock is believed. It follows by at most 7 days at once; a longer leap is for a person to confirm: traceflow partitions prune --today.';
COMMENT ON TABLE public.traceflow_retention IS 'How many days before counted_from (today, UTC) stay: one row. The sinks drop what is older, hourly; NULL: kept for ever. Changed by: traceflow partitions keep.';
COMMENT ON COLUMN public.traceflow_retention.updated_at IS 'When it was last changed how long something is kept.';

CREATE OR REPLACE FUNCTION traceflow_parts.kept_since(relation REGCLASS) RETURNS DATE
LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT counted_from - CASE relation
    WHEN 'public.traceflow_events'::regclass THEN events_days
    WHEN 'public.session_recording_chunks'::regclass THEN recordings_days
    WHEN 'public.session_recordings'::regclass THEN recordings_days
    WHEN 'public.traceflow_sessions'::regclass THEN sessions_days
  END
  FROM public.traceflow_retention
$$;

CREATE FUNCTION traceflow_parts.believed_until() RETURNS DATE LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT counted_from + 7 FROM public.traceflow_retention
$$;

-- Never back: what a clock that was ahead let go is not kept again by making its days anew.
CREATE FUNCTION traceflow_parts.follow_clock() RETURNS VOID
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
  UPDATE public.traceflow_retention SET counted_from = traceflow_parts.today()
  WHERE counted_from < traceflow_parts.today() AND traceflow_parts.today() <= traceflow_parts.believed_until()
$$;

COMMENT ON FUNCTION traceflow_parts.believed_until() IS 'The last day that retention believes the clock: a week after traceflow_retention.counted_from.';
COMMENT ON FUNCTION traceflow_parts.follow_clock() IS 'Let retention count from today, unless the clock leapt by more than a week.';
REVOKE ALL ON FUNCTION traceflow_parts.believed_until(), traceflow_parts.follow_clock() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION traceflow_parts.believed_until(), traceflow_parts.follow_clock() TO traceflow_sink, service_role;

-- A day that passes is no change to tell of; a leap that somebody confirmed is.
DROP TRIGGER update_traceflow_retention_timestamp ON public.traceflow_retention;
CREATE TRIGGER update_traceflow_retention_timestamp
  BEFORE UPDATE OF events_days, recordings_days, sessions_days ON public.traceflow_retention
  FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
DROP TRIGGER write_traceflow_audit_log_of_days ON public.traceflow_retention;
CREATE TRIGGER write_traceflow_audit_log_of_days AFTER UPDATE ON public.traceflow_retention
  FOR EACH ROW WHEN (
    (OLD.events_days, OLD.recordings_days, OLD.sessions_days)
    IS DISTINCT FROM (NEW.events_days, NEW.recordings_days, NEW.sessions_days)
    OR NEW.counted_from > OLD.counted_from + 7
  ) EXECUTE FUNCTION public.write_traceflow_audit_log('id');
