SELECT 'constraint ' || quote_ident(k.conname) || ' on ' || c.q,
  concat_ws(' ', pg_get_constraintdef(k.oid),
    CASE WHEN k.coninhcount > 0 AND NOT c.relispartition THEN
      CASE WHEN k.conislocal THEN 'INHERITED AND LOCAL' ELSE 'INHERITED' END END)
FROM rel c JOIN pg_constraint k ON k.conrelid = c.oid
-- foreign keys that partitions have from their parent are made anew by a restore, under other names
WHERE k.contype <> 't' AND NOT (k.contype = 'f' AND k.conparentid <> 0)
UNION ALL
SELECT 'constraint ' || quote_ident(k.conname) || ' on domain ' || k.contypid::regtype::text,
  pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN ns ON ns.oid = t.typnamespace
WHERE t.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_type'::regclass)
