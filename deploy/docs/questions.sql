-- The questions of an analyst's day, one statement each, as deploy/docs/dictionary.md shows them. Each is run by
-- tests/integration/test_analyst_questions.py on generated data, and its answer computed in Python beside it.

-- sessions_to_watch --
-- Which sessions of the last week went worst, and by what most?
SELECT session_id, frustration_score, top_finding, finding_count FROM traceflow_session_overview
WHERE started_at > now() - interval '7 days' ORDER BY frustration_score DESC, session_id LIMIT 10;

-- funnel --
-- How many sessions of the last week came from the start page by a product to the order?
SELECT * FROM traceflow_funnel('{/,/product/%,/cart,/thanks}');

-- painful_elements --
-- Which elements of which pages hurt most?
SELECT page_url, element_selector, pain, affected_sessions FROM traceflow_painful_elements
ORDER BY pain DESC, page_url, element_selector LIMIT 10;

-- frustration_by_browser --
-- In which browser does it go worst?
SELECT value AS browser, sum(sessions) AS sessions, round(sum(score_sum)::numeric / sum(sessions), 1) AS mean_score
FROM traceflow_frustration_by WHERE dimension = 'browser' AND day >= current_date - 7
GROUP BY value ORDER BY mean_score DESC, value;

-- frustration_by_country --
-- In which country?
SELECT value AS country, sum(sessions) AS sessions, round(sum(score_sum)::numeric / sum(sessions), 1) AS mean_score
FROM traceflow_frustration_by WHERE dimension = 'country' AND day >= current_date - 7
GROUP BY value ORDER BY mean_score DESC, value;

-- frustration_by_release --
-- Since which release?
SELECT value AS release, min(day) AS first_day, sum(frustrated_sessions) AS frustrated, sum(sessions) AS sessions
FROM traceflow_frustration_by WHERE dimension = 'release' AND day >= current_date - 7
GROUP BY value ORDER BY value;

-- errors --
-- Which errors met most users in the last week?
SELECT error_message, affected_users, affected_sessions, occurrences, top_page FROM traceflow_error_groups
WHERE last_detected_at > now() - interval '7 days' ORDER BY affected_users DESC, error_message;

-- abandoned_fields --
-- Which fields do people fill in forms that they then leave?
SELECT page, form, field, count(*) AS abandoned FROM traceflow_abandoned_fields
WHERE "timestamp" > now() - interval '7 days' GROUP BY page, form, field ORDER BY abandoned DESC, page, form, field;

-- slow_answers --
-- Which elements let the clicks of the last day wait longest for an answer?
SELECT page, element, median_ms, p95_ms, answered, clicks FROM traceflow_response_times(now() - interval '1 day')
ORDER BY median_ms DESC NULLS LAST, page, element;

-- click_responses --
-- How long did each click of one session wait, and what answered it?
SELECT "timestamp", page, element, source, response, response_ms FROM traceflow_click_responses
WHERE session_id = 'first' ORDER BY "timestamp", event_id;

-- traffic --
-- How did page views, errors and rage clicks go by day in the last year, and how much of all that happened hurt?
SELECT day, sum(page_views) AS page_views, sum(errors) AS errors, sum(rage_clicks) AS rage_clicks,
  round(1000 * sum(findings) / sum(events), 1) AS findings_per_1000
FROM traceflow_traffic_by_day WHERE day > current_date - 365 GROUP BY day ORDER BY day;

-- hours_of_the_day --
-- At which hours of the day (UTC) was there most to be annoyed at in the last week?
SELECT extract(hour FROM hour AT TIME ZONE 'UTC')::integer AS hour_of_day, sum(events) AS events, sum(findings) AS findings
FROM traceflow_traffic_by_hour WHERE hour > now() - interval '7 days' GROUP BY hour_of_day ORDER BY findings DESC, hour_of_day;

-- event_types --
-- How many events of each type came in the last week, findings among them?
SELECT event_type, sum(events) AS events FROM traceflow_event_hours
WHERE hour > now() - interval '7 days' GROUP BY event_type ORDER BY events DESC, event_type;

-- timeline --
-- What happened in one session, findings among the events?
SELECT since_start, event_type, is_finding, page_url, element FROM traceflow_session_timeline
WHERE session_id = 'first';

-- recording --
-- What was recorded of it: the whole rrweb array, for any player.
SELECT events FROM session_recordings_full WHERE session_id = 'first';
