-- What the catalog says about access.

-- matrix --
-- For each role, table or view, and operation: the privilege, on which columns, and which conditions rows must meet.
SELECT
  r.rolname::text AS role,
  c.relname::text AS relation,
  c.relkind = 'v' AS is_view,
  o.operation,
  has_table_privilege(r.oid, c.oid, o.operation) AS is_granted,
  ARRAY(
    SELECT a.attname::text FROM pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND o.operation IN ('SELECT', 'INSERT', 'UPDATE')
      AND has_column_privilege(r.oid, c.oid, a.attnum, o.operation)
    ORDER BY a.attnum
  ) AS granted_columns,
  ARRAY(
    SELECT a.attname::text FROM pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  ) AS columns,
  o.operation = 'TRUNCATE' OR NOT c.relrowsecurity OR r.rolsuper OR r.rolbypassrls
    OR pg_has_role(r.oid, c.relowner, 'USAGE') AS is_unbound,
  ARRAY(
    SELECT DISTINCT regexp_replace(
      pg_get_expr(CASE o.operation WHEN 'INSERT' THEN coalesce(p.polwithcheck, p.polqual) ELSE p.polqual END, p.polrelid),
      '\s+', ' ', 'g')
    FROM pg_policy AS p
    WHERE p.polrelid = c.oid
      AND p.polcmd IN ('*', CASE o.operation WHEN 'SELECT' THEN 'r' WHEN 'INSERT' THEN 'a' WHEN 'UPDATE' THEN 'w'
                            WHEN 'DELETE' THEN 'd' END::"char")
      AND (p.polroles = '{0}' OR EXISTS (SELECT FROM unnest(p.polroles) AS g WHERE pg_has_role(r.oid, g, 'USAGE')))
    ORDER BY 1
  ) AS conditions
FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS wanted(role, place)
JOIN pg_roles AS r ON r.rolname = wanted.role
CROSS JOIN pg_class AS c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) WITH ORDINALITY AS o(operation, step)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
ORDER BY wanted.place, c.relkind = 'v', c.relname, o.step;

-- policies --
-- Every policy, as it stands.
SELECT c.relname::text, p.polname::text,
  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
  CASE WHEN p.polroles = '{0}' THEN 'public' ELSE array_to_string(p.polroles::regrole[], ', ') END,
  p.polpermissive
FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
ORDER BY c.relname, p.polname;

-- definers --
-- Functions that run with their owner's rights and can be called, and by whom of the roles.
SELECT p.oid::regprocedure::text,
  ARRAY(SELECT role FROM unnest(%(roles)s::text[]) AS role WHERE has_function_privilege(role, p.oid, 'EXECUTE'))
FROM pg_proc AS p
WHERE p.pronamespace IN ('public'::regnamespace, 'traceflow_parts'::regnamespace) AND p.prosecdef
  AND p.prorettype <> 'trigger'::regtype
ORDER BY 1;

-- leaves --
-- Partitions, whether row-level security is on, and which of the roles have any right on one directly.
SELECT c.relname::text, c.relrowsecurity,
  ARRAY(SELECT role FROM unnest(%(roles)s::text[]) AS role
        WHERE has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
           OR has_any_column_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
FROM pg_class AS c
WHERE c.relnamespace = 'traceflow_parts'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY 1;
