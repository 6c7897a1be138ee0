-- What a schema promises, as (object, table, value), in a form that does not depend on how it is stored: no partitions, no
-- names that PostgreSQL makes up; one row a column, index, constraint, function, trigger, policy, publication and extension.
WITH
tables AS (
  SELECT oid, relname, relrowsecurity FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
),
index_columns AS (
  SELECT i.indexrelid, i.indrelid, i.indisunique, i.indisprimary, i.indnullsnotdistinct,
    (SELECT string_agg(
       pg_get_indexdef(i.indexrelid, n, true)
       || CASE WHEN i.indoption[n - 1] & 1 = 1 THEN ' DESC' ELSE '' END, ', ' ORDER BY n)
     FROM generate_series(1, i.indnkeyatts) AS n) AS columns
  FROM pg_index AS i JOIN tables AS t ON t.oid = i.indrelid
),
constraint_columns AS (
  SELECT c.*, (SELECT string_agg(a.attname, ', ' ORDER BY n)
               FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, n)
               JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns
  FROM pg_constraint AS c JOIN tables AS t ON t.oid = c.conrelid
  WHERE c.conparentid = 0
)
SELECT format('table %s', t.relname), t.relname::text, 'exists' FROM tables AS t
UNION ALL
SELECT format('row security of %s', t.relname), t.relname, 'on' FROM tables AS t WHERE t.relrowsecurity
UNION ALL
SELECT format('column %s.%s', t.relname, a.attname), t.relname,
  format_type(a.atttypid, a.atttypmod)
  || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
  || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
FROM tables AS t
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('primary key of %s', t.relname), t.relname, format('(%s)', i.columns)
FROM tables AS t JOIN index_columns AS i ON i.indrelid = t.oid WHERE i.indisprimary
UNION
SELECT format('unique %s (%s)', t.relname, i.columns), t.relname,
  CASE WHEN i.indnullsnotdistinct THEN 'nulls not distinct' ELSE 'nulls distinct' END
FROM tables AS t JOIN index_columns AS i ON i.indrelid = t.oid WHERE i.indisunique AND NOT i.indisprimary
UNION ALL
SELECT format('index %s', i.indexrelid::regclass), t.relname,
  format('%s%s (%s)', CASE WHEN i.indisunique THEN 'unique on ' ELSE 'on ' END, t.relname, i.columns)
FROM tables AS t JOIN index_columns AS i ON i.indrelid = t.oid
WHERE NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
UNION ALL
SELECT format('foreign key %s (%s)', t.relname, c.columns), t.relname,
  regexp_replace(pg_get_constraintdef(c.oid), '^FOREIGN KEY \(.*?\) REFERENCES ', '')
FROM tables AS t JOIN constraint_columns AS c ON c.conrelid = t.oid WHERE c.contype = 'f'
UNION ALL
SELECT format('check of %s', t.relname), t.relname, pg_get_constraintdef(c.oid)
FROM tables AS t JOIN constraint_columns AS c ON c.conrelid = t.oid WHERE c.contype = 'c'
UNION ALL
SELECT format('function %s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), NULL,
  format('returns %s, %s, %s, %s%s', pg_get_function_result(p.oid), l.lanname,
    CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
    CASE WHEN p.prosecdef THEN 'security definer' ELSE 'security invoker' END,
    coalesce(', ' || array_to_string(p.proconfig, ', '), ''))
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
UNION ALL
SELECT format('body of %s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), NULL,
  'md5 ' || md5(btrim(regexp_replace(p.prosrc, '\s+', ' ', 'g')))
FROM pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
UNION ALL
SELECT format('trigger %s on %s', g.tgname, t.relname), t.relname,
  regexp_replace(pg_get_triggerdef(g.oid, true), format('^CREATE TRIGGER %s (.*) ON %s ', g.tgname, t.relname), '\1 ')
FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT format('policy "%s" on %s', p.polname, t.relname), t.relname,
  concat_ws(' ',
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    'to ' || CASE WHEN p.polroles = '{0}' THEN 'public' ELSE array_to_string(p.polroles::regrole[], ', ') END,
    'using ' || regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g'),
    'check ' || regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), '\s+', ' ', 'g'))
FROM tables AS t JOIN pg_policy AS p ON p.polrelid = t.oid
UNION ALL
SELECT format('publication %s of %s', p.pubname, t.relname), t.relname, 'published'
FROM tables AS t JOIN pg_publication_rel AS r ON r.prrelid = t.oid JOIN pg_publication AS p ON p.oid = r.prpubid
UNION ALL
SELECT format('extension %s', extname), NULL, 'installed' FROM pg_extension WHERE extname <> 'plpgsql'
ORDER BY 1
