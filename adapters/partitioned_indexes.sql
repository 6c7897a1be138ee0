-- The parts of indexes that partitions lack.

-- missing --
-- Tell for each index that was made ON ONLY its parent which partitions have no part of it, and how to build one.
SELECT
  pn.nspname::text AS parent_schema, p.relname::text AS parent_index,
  n.nspname::text AS leaf_schema, leaf.relname::text AS leaf,
  name.part,
  i.indisunique AS is_unique,
  substring(pg_get_indexdef(i.indexrelid) FROM 'USING .*$') AS definition,
  built.indisvalid AS is_valid
FROM pg_index AS i
JOIN pg_class AS p ON p.oid = i.indexrelid AND p.relkind = 'I'
JOIN pg_namespace AS pn ON pn.oid = p.relnamespace AND pn.nspname = 'public'
JOIN pg_inherits AS h ON h.inhparent = i.indrelid
JOIN pg_class AS leaf ON leaf.oid = h.inhrelid AND leaf.relkind = 'r'
JOIN pg_namespace AS n ON n.oid = leaf.relnamespace
CROSS JOIN LATERAL (SELECT leaf.relname || '_' || left(md5(p.relname), 8) AS part) AS name
LEFT JOIN (
  SELECT b.indrelid, b.indisvalid, c.relname FROM pg_index AS b JOIN pg_class AS c ON c.oid = b.indexrelid
) AS built ON built.indrelid = leaf.oid AND built.relname = name.part
WHERE NOT i.indisvalid AND NOT EXISTS (
  SELECT FROM pg_inherits AS a JOIN pg_index AS x ON x.indexrelid = a.inhrelid
  WHERE a.inhparent = i.indexrelid AND x.indrelid = leaf.oid
)
ORDER BY p.relname, leaf.relname

-- patient --
-- Let a build wait for those who were there before it; nobody waits for the build.
SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false),
  set_config('search_path', 'public', false)

-- set_lock_timeout --
-- Wait at most so long for a lock, to the end of the transaction.
SELECT set_config('lock_timeout', %(value)s, true)
