SELECT 'comment on ' || o.type || ' ' || o.identity, quote_literal(d.description)
FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) o
WHERE (d.objoid >= 16384 OR (d.classoid, d.objoid) = ('pg_namespace'::regclass, 'public'::regnamespace))
  AND (d.classoid, d.objoid) NOT IN (SELECT m.classid, m.objid FROM member m)
  AND o.identity !~ '(^| )pg_temp[.]'
UNION ALL
SELECT 'security label of ' || quote_ident(l.provider) || ' on ' || o.type || ' ' || o.identity, quote_literal(l.label)
FROM pg_seclabel l, LATERAL pg_identify_object(l.classoid, l.objoid, l.objsubid) o
