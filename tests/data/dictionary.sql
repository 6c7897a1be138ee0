-- What the comments of the database say.

-- tables --
-- Tables with their columns, in order.
SELECT c.relname::text, obj_description(c.oid, 'pg_class'),
  ARRAY(
    SELECT ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
                 col_description(c.oid, a.attnum)]
    FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  )
FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname;

-- views --
-- Views with their columns, in order.
SELECT c.relname::text, obj_description(c.oid, 'pg_class'),
  ARRAY(
    SELECT ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)]
    FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  )
FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname;

-- functions --
-- Functions that can be called, or those that triggers call: signature, result and meaning.
SELECT
  CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || p.proname || '(' || pg_get_function_arguments(p.oid) || ')',
  pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc')
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname IN ('public', 'traceflow_parts') AND (p.prorettype = 'trigger'::regtype) = %(is_trigger)s
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1;
