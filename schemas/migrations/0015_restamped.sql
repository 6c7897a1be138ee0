-- Which sessions hold a restamped event that may come again with its own time: the sinks look for its id there.
-- A constant default: the catalog alone changes, no row is rewritten.
ALTER TABLE public.traceflow_sessions ADD COLUMN has_restamped BOOLEAN NOT NULL DEFAULT false;
COMMENT ON COLUMN public.traceflow_sessions.has_restamped IS 'An event of the session is stored under its arrival because the time that its client gave could not be believed then: sent again it may be, so its id decides whether it is new.';
