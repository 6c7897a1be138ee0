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
-- How long did clicks of the last day wait for an answer, the slowest elements first?
SELECT page, element, percentile_disc(0.5) WITHIN GROUP (ORDER BY response_ms) AS median_ms,
  count(response_ms) AS answered, count(*) AS clicks
FROM traceflow_click_responses WHERE "timestamp" > now() - interval '1 day' AND source = 'event'
GROUP BY page, element ORDER BY median_ms DESC NULLS LAST, page, element;

-- timeline --
-- What happened in one session, findings among the events?
SELECT since_start, event_type, is_finding, page_url, element FROM traceflow_session_timeline
WHERE session_id = 'first';

-- recording --
-- What was recorded of it: the whole rrweb array, for any player.
SELECT events FROM session_recordings_full WHERE session_id = 'first';
