-- Everything that a migrated database is, as (object, property): what two databases of one server must have in common,
-- whichever way they came. Days in names and bounds are written DAY, and indexes and constraints of partitions stand
-- without their names, which PostgreSQL makes up, columns of partitions without the comments that their parent had when
-- they were made: partitions of one parent that are alike are one row.
WITH
schemas AS (
  SELECT oid, nspname FROM pg_namespace WHERE nspname IN ('public', 'traceflow_parts', 'auth')
),
relations AS (
  SELECT c.*, n.nspname = 'traceflow_parts' AS is_leaf,
    n.nspname || '.' || CASE WHEN n.nspname = 'traceflow_parts' THEN regexp_replace(c.relname, '_\d{8}', '_DAY')
                             ELSE c.relname END AS name
  FROM pg_class AS c JOIN schemas AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
),
functions AS (
  SELECT p.*, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
  FROM pg_proc AS p JOIN schemas AS n ON n.oid = p.pronamespace
  WHERE NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
),
grants AS (
  SELECT name AS object, relowner AS owner, relacl AS acl FROM relations
  UNION ALL
  SELECT r.name || '.' || a.attname, r.relowner, a.attacl
  FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT name, proowner, coalesce(proacl, acldefault('f', proowner)) FROM functions
  UNION ALL
  SELECT 'schema ' || nspname, nspowner, nspacl FROM pg_namespace WHERE oid IN (SELECT oid FROM schemas)
),
found (object, property) AS (
  SELECT name, format('relation %s, owner %s, row security %s %s, options %s, key %s, bound %s, comment %s',
    relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, reloptions,
    CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END,
    regexp_replace(pg_get_expr(relpartbound, oid), '\d{4}-\d\d-\d\d', 'DAY', 'g'), obj_description(oid, 'pg_class'))
  FROM relations
  UNION ALL
  SELECT r.name || '.' || a.attname,
    format('column %s: %s, not null %s, default %s, identity %s, generated %s, storage %s, compression %s, comment %s',
      row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
      pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
      CASE WHEN NOT r.is_leaf THEN col_description(r.oid, a.attnum) END)
  FROM relations AS r
  JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
  UNION ALL
  SELECT r.name, format('constraint %s %s, validated %s, comment %s',
    CASE WHEN r.is_leaf THEN c.contype::text ELSE c.conname END, pg_get_constraintdef(c.oid), c.convalidated,
    obj_description(c.oid, 'pg_constraint'))
  FROM relations AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
  UNION ALL
  SELECT r.name, format('index %s, valid %s, part of %s',
    CASE WHEN r.is_leaf THEN regexp_replace(regexp_replace(pg_get_indexdef(i.indexrelid), ' INDEX \S+ ON ', ' INDEX ON '),
                                            '_\d{8}', '_DAY')
         ELSE pg_get_indexdef(i.indexrelid) END,
    i.indisvalid, (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = i.indexrelid))
  FROM relations AS r JOIN pg_index AS i ON i.indrelid = r.oid
  UNION ALL
  SELECT r.name, regexp_replace(format('trigger %s, %s', g.tgenabled, pg_get_triggerdef(g.oid)), '_\d{8}', '_DAY')
  FROM relations AS r JOIN pg_trigger AS g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal
  UNION ALL
  SELECT r.name, format('policy %s, for %s, permissive %s, to %s, using %s, check %s', p.polname, p.polcmd, p.polpermissive,
    CASE WHEN p.polroles = '{0}' THEN 'public' ELSE array_to_string(p.polroles::regrole[], ', ') END,
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  FROM relations AS r JOIN pg_policy AS p ON p.polrelid = r.oid
  UNION ALL
  SELECT name, 'view ' || pg_get_viewdef(oid) FROM relations WHERE relkind IN ('v', 'm')
  UNION ALL
  SELECT r.name, 'statistics ' || pg_get_statisticsobjdef(s.oid)
  FROM relations AS r JOIN pg_statistic_ext AS s ON s.stxrelid = r.oid
  UNION ALL
  SELECT name, format('function, owner %s, comment %s: %s', proowner::regrole, obj_description(oid, 'pg_proc'),
    CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(oid) END)
  FROM functions
  UNION ALL
  SELECT g.object, format('%s: %s %s', CASE e.grantee WHEN 0 THEN 'public' ELSE e.grantee::regrole::text END,
    e.privilege_type, e.is_grantable)
  FROM grants AS g CROSS JOIN LATERAL aclexplode(g.acl) AS e WHERE e.grantee <> g.owner
  UNION ALL
  SELECT 'schema ' || n.nspname, format('owner %s, comment %s', n.nspowner::regrole, obj_description(n.oid, 'pg_namespace'))
  FROM pg_namespace AS n WHERE n.oid IN (SELECT oid FROM schemas)
  UNION ALL
  SELECT 'type ' || t.oid::regtype, format('%s, labels %s, base %s, comment %s', t.typtype,
    ARRAY(SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
    format_type(t.typbasetype, t.typtypmod), obj_description(t.oid, 'pg_type'))
  FROM pg_type AS t WHERE t.typnamespace IN (SELECT oid FROM schemas) AND t.typtype IN ('e', 'd', 'r')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = t.oid AND d.deptype = 'e')
  UNION ALL
  SELECT 'publication ' || p.pubname, format('all %s, root %s, %s', p.puballtables, p.pubviaroot, r.prrelid::regclass)
  FROM pg_publication AS p LEFT JOIN pg_publication_rel AS r ON r.prpubid = p.oid
  UNION ALL
  SELECT 'default privileges of ' || d.defaclrole::regrole, format('%s in %s: %s', d.defaclobjtype, d.defaclnamespace, d.defaclacl)
  FROM pg_default_acl AS d
  UNION ALL
  SELECT 'extension ' || extname, extversion FROM pg_extension
)
SELECT DISTINCT object, property FROM found ORDER BY object, property
