-- Rows of traceflow_events: the fast way into the table, and the careful one through a staging table.

-- copy_rows --
-- All rows at once: fails as a whole if one of them is there already or cannot be stored.
COPY public.traceflow_events (
  id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
  element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
  viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
) FROM STDIN;

-- create_stage --
-- The staging table of this connection: `place` is the row's place in the batch, `reach` how far from its own time a
-- row of the same id may be another try of the same event, `restamped` whether its time is that of its arrival.
CREATE TEMPORARY TABLE IF NOT EXISTS traceflow_event_stage (
  place INTEGER NOT NULL,
  reach INTERVAL NOT NULL,
  restamped BOOLEAN NOT NULL,
  LIKE public.traceflow_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS
) ON COMMIT DELETE ROWS;

-- empty_stage --
-- Begin with an empty staging table: a transaction may use it more than once.
TRUNCATE pg_temp.traceflow_event_stage;

-- copy_staged --
-- Rows into the staging table, which checks their values but not whether they are new.
COPY pg_temp.traceflow_event_stage (
  place, reach, restamped, id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
  element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
  viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
) FROM STDIN;

-- insert_exact --
-- Insert the staged rows of no reach: (id, timestamp) tells whether a row is new. Returns how many rows of each session,
-- type and hour (since 1970) were.
WITH inserted AS (
  INSERT INTO public.traceflow_events (
    id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
    element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
    viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
  )
  SELECT
    id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
    element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
    viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
  FROM pg_temp.traceflow_event_stage
  WHERE place BETWEEN %(first)s AND %(last)s AND reach = '0'
  ORDER BY place
  ON CONFLICT DO NOTHING
  RETURNING session_id, event_type, "timestamp"
)
SELECT session_id, event_type, floor(extract(epoch FROM "timestamp") / 3600)::bigint AS hour, count(*) FROM inserted
GROUP BY session_id, event_type, hour;

-- insert_near --
-- Insert the staged rows that may be another try of an event that is stored under another time: only if no row of the
-- same id lies within reach, itself or this one restamped, or both of one time. Of tries within the batch the first
-- counts. Returns as insert_exact.
WITH inserted AS (
  INSERT INTO public.traceflow_events (
    id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
    element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
    viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
  )
  SELECT DISTINCT ON (id, own_time)
    id, session_id, project_id, "timestamp", metadata, event_type, event_name, page_url, page_title,
    element_tag, element_id, element_class, element_text, element_selector, x_position, y_position,
    viewport_width, viewport_height, scroll_depth, error_message, error_stack, time_on_page_ms
  FROM (
    SELECT *, CASE WHEN NOT bool_or(restamped) OVER (PARTITION BY id) THEN "timestamp" END AS own_time
    FROM pg_temp.traceflow_event_stage
    WHERE place BETWEEN %(first)s AND %(last)s AND reach > '0'
  ) AS staged
  LEFT JOIN LATERAL (
    -- LIMIT keeps this a look-up by key for each row, whatever the planner thinks of the tables' sizes
    SELECT true AS present FROM public.traceflow_events AS stored
    WHERE stored.id = staged.id
      AND stored."timestamp" BETWEEN staged."timestamp" - staged.reach AND staged."timestamp" + staged.reach
      AND (
        staged.restamped OR stored."timestamp" = staged."timestamp"
        OR stored.metadata ?| '{client_timestamp,event.client_timestamp}'
      )
    LIMIT 1
  ) AS same ON true
  WHERE same.present IS NULL
  ORDER BY id, own_time, place
  ON CONFLICT DO NOTHING
  RETURNING session_id, event_type, "timestamp"
)
SELECT session_id, event_type, floor(extract(epoch FROM "timestamp") / 3600)::bigint AS hour, count(*) FROM inserted
GROUP BY session_id, event_type, hour;

-- taken --
-- Places of the staged rows whose id another session holds.
SELECT staged.place FROM pg_temp.traceflow_event_stage AS staged
CROSS JOIN LATERAL (
  SELECT stored.session_id FROM public.traceflow_events AS stored
  WHERE stored.id = staged.id
    AND stored."timestamp" BETWEEN staged."timestamp" - staged.reach AND staged."timestamp" + staged.reach
    AND (
      staged.restamped OR stored."timestamp" = staged."timestamp"
      OR stored.metadata ?| '{client_timestamp,event.client_timestamp}'
    )
  LIMIT 1
) AS holder
WHERE holder.session_id <> staged.session_id
ORDER BY staged.place;
