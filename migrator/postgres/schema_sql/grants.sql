, granted(classid, objid, subid, acl, standard) AS (
  SELECT 'pg_class'::regclass, c.oid, 0, c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)
  FROM pg_class c WHERE c.relacl IS NOT NULL AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'pg_class'::regclass, a.attrelid, a.attnum, a.attacl, acldefault('c', c.relowner)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'pg_proc'::regclass, p.oid, 0, p.proacl, acldefault('f', p.proowner)
  FROM pg_proc p WHERE p.proacl IS NOT NULL
  UNION ALL
  SELECT 'pg_type'::regclass, t.oid, 0, t.typacl, acldefault('T', t.typowner)
  FROM pg_type t WHERE t.typacl IS NOT NULL
  UNION ALL
  SELECT 'pg_namespace'::regclass, n.oid, 0, n.nspacl, acldefault('n', n.nspowner)
  FROM pg_namespace n WHERE n.nspacl IS NOT NULL AND n.nspname !~ '^pg_(toast_)?temp_'
  UNION ALL
  SELECT 'pg_language'::regclass, l.oid, 0, l.lanacl, acldefault('l', l.lanowner)
  FROM pg_language l WHERE l.lanacl IS NOT NULL
  UNION ALL
  SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, 0, w.fdwacl, acldefault('F', w.fdwowner)
  FROM pg_foreign_data_wrapper w WHERE w.fdwacl IS NOT NULL
  UNION ALL
  SELECT 'pg_foreign_server'::regclass, s.oid, 0, s.srvacl, acldefault('S', s.srvowner)
  FROM pg_foreign_server s WHERE s.srvacl IS NOT NULL
), printed AS (
  SELECT g.classid, g.objid, g.subid, now.text AS now, before.text AS before
  FROM granted g
  -- what initdb or CREATE EXTENSION granted is the standard of their objects
  LEFT JOIN pg_init_privs i ON (i.classoid, i.objoid, i.objsubid) = (g.classid, g.objid, g.subid),
  LATERAL (SELECT coalesce(string_agg(e.entry, ', ' ORDER BY e.entry COLLATE "C"), 'nobody') AS text FROM (
    SELECT concat_ws(' ', x.privilege_type, 'TO', CASE x.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE quote_ident(pg_get_userbyid(x.grantee)) END, 'BY', quote_ident(pg_get_userbyid(x.grantor)),
                     CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END) AS entry FROM aclexplode(g.acl) x) e) now,
  LATERAL (SELECT coalesce(string_agg(e.entry, ', ' ORDER BY e.entry COLLATE "C"), 'nobody') AS text FROM (
    SELECT concat_ws(' ', x.privilege_type, 'TO', CASE x.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE quote_ident(pg_get_userbyid(x.grantee)) END, 'BY', quote_ident(pg_get_userbyid(x.grantor)),
                     CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END) AS entry
    FROM aclexplode(coalesce(i.initprivs, g.standard)) x) e) before
)
SELECT 'grants on ' || o.type || ' ' || o.identity, p.now
FROM printed p, LATERAL pg_identify_object(p.classid, p.objid, p.subid) o
WHERE p.now <> p.before AND o.identity !~ '^information_schema([.]|$)'
UNION ALL
SELECT 'default privileges of ' || quote_ident(pg_get_userbyid(d.defaclrole)) || ' on ' || CASE d.defaclobjtype
    WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
    WHEN 'n' THEN 'schemas' ELSE 'large objects' END
    || coalesce(' in schema ' || nullif(d.defaclnamespace, 0)::regnamespace::text, ''),
  (SELECT coalesce(string_agg(e.entry, ', ' ORDER BY e.entry COLLATE "C"), 'nobody') FROM (
    SELECT concat_ws(' ', x.privilege_type, 'TO', CASE x.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                     CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END) AS entry FROM aclexplode(d.defaclacl) x) e)
FROM pg_default_acl d
UNION ALL
-- one line for all: there may be millions
SELECT 'large objects', count(*) || ' ' || sum(hash_record_extended(ROW(m.oid::text, pg_get_userbyid(m.lomowner)::text, (
    SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable, x.grantor::regrole), ','
                      ORDER BY x.grantee::regrole::text COLLATE "C", x.privilege_type COLLATE "C")
    FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) x)), 0))
FROM pg_largeobject_metadata m HAVING count(*) > 0
