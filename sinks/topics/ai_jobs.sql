-- Jobs for the AI worker.

-- enqueue --
-- Put the jobs into the queue that are not there yet; returns how many those were.
WITH enqueued AS (
  INSERT INTO public.traceflow_ai_queue (id, session_id, project_id, task_type, priority, input_data)
  SELECT id, session_id, project_id, task_type, priority, input_data
  FROM unnest(
    %(ids)s::uuid[], %(session_ids)s::text[], %(project_ids)s::uuid[], %(task_types)s::text[], %(priorities)s::integer[],
    %(inputs)s::jsonb[]
  ) AS job(id, session_id, project_id, task_type, priority, input_data)
  ORDER BY id
  ON CONFLICT DO NOTHING
  RETURNING id
)
SELECT count(*) FROM enqueued;
