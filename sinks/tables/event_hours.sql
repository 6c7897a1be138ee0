-- Events by the hour.

-- add --
-- Add rows to the hours of one sink and partition, in one order; `hours` are epoch seconds.
INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
SELECT added.project_id, to_timestamp(added.hour), added.event_type, %(sink)s, %(part)s, added.events
FROM unnest(%(project_ids)s::uuid[], %(hours)s::bigint[], %(event_types)s::text[], %(events)s::bigint[])
  AS added(project_id, hour, event_type, events)
ORDER BY added.project_id, added.hour, added.event_type
ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + excluded.events;
