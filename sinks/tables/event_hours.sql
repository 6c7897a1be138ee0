-- Events by the hour.

-- add --
-- Add rows to the hours of one sink and partition, in one order; `hours` are epoch seconds. What clients made up is one type.
INSERT INTO public.traceflow_event_hour_counts AS held (project_id, hour, event_type, sink, part, events)
SELECT
  added.project_id, to_timestamp(added.hour), public.traceflow_counted_type(added.event_type) AS counted_type, %(sink)s,
  %(part)s, sum(added.events)
FROM unnest(%(project_ids)s::uuid[], %(hours)s::bigint[], %(event_types)s::text[], %(events)s::bigint[])
  AS added(project_id, hour, event_type, events)
GROUP BY added.project_id, added.hour, counted_type
ORDER BY added.project_id, added.hour, counted_type
ON CONFLICT (project_id, hour, event_type, sink, part) DO UPDATE SET events = held.events + excluded.events;
