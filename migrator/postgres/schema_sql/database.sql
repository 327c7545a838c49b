SELECT 'schema ' || ns.q, 'OWNER ' || quote_ident(pg_get_userbyid(n.nspowner))
FROM ns JOIN pg_namespace n ON n.oid = ns.oid
WHERE n.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_namespace'::regclass)
UNION ALL
-- without the owner: nothing can give an extension another one, a restore makes its own login the owner
SELECT 'extension ' || quote_ident(e.extname),
  'VERSION ' || quote_literal(e.extversion) || ' SCHEMA ' || quote_ident(n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
UNION ALL
SELECT 'event trigger ' || quote_ident(t.evtname),
  concat_ws(' ', 'ON ' || quote_ident(t.evtevent),
    'TAGS (' || (SELECT string_agg(quote_literal(g), ', ' ORDER BY g COLLATE "C") FROM unnest(t.evttags) g) || ')',
    t.evtfoid::regprocedure::text,
    CASE t.evtenabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'ENABLED REPLICA' WHEN 'A' THEN 'ENABLED ALWAYS' END,
    'OWNER ' || quote_ident(pg_get_userbyid(t.evtowner)))
FROM pg_event_trigger t
WHERE t.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_event_trigger'::regclass)
UNION ALL
SELECT 'publication ' || quote_ident(p.pubname),
  quote_literal((to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text)
    || ' OWNER ' || quote_ident(pg_get_userbyid(p.pubowner))
FROM pg_publication p
UNION ALL
SELECT 'publication ' || quote_ident(p.pubname) || ' of table ' || r.prrelid::regclass::text,
  concat_ws(' ', 'INCLUDED',
    'WHERE ' || pg_get_expr(r.prqual, r.prrelid), -- 15+
    'COLUMNS (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) FROM pg_attribute a -- 15+
                    WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) || ')', -- 15+
    NULL)
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
UNION ALL -- 15+
SELECT 'publication ' || quote_ident(p.pubname) || ' of schema ' || n.pnnspid::regnamespace::text, 'INCLUDED' -- 15+
FROM pg_publication_namespace n JOIN pg_publication p ON p.oid = n.pnpubid -- 15+
UNION ALL
-- without what a restore has to switch off: the connection, its slot, and whether it is enabled
SELECT 'subscription ' || quote_ident(s.subname),
  concat_ws(' ',
    'PUBLICATIONS (' || (SELECT string_agg(quote_literal(u), ', ' ORDER BY u COLLATE "C") FROM unnest(s.subpublications) u) || ')',
    'OWNER ' || quote_ident(pg_get_userbyid(s.subowner)))
FROM pg_subscription s
WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
UNION ALL
SELECT 'foreign data wrapper ' || quote_ident(w.fdwname),
  concat_ws(' ', nullif(w.fdwhandler, 0)::regprocedure::text, nullif(w.fdwvalidator, 0)::regprocedure::text,
    'OPTIONS (' || (SELECT string_agg(quote_literal(o), ', ' ORDER BY o COLLATE "C") FROM unnest(w.fdwoptions) o) || ')',
    'OWNER ' || quote_ident(pg_get_userbyid(w.fdwowner)))
FROM pg_foreign_data_wrapper w
WHERE w.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_foreign_data_wrapper'::regclass)
UNION ALL
SELECT 'server ' || quote_ident(s.srvname),
  concat_ws(' ', 'TYPE ' || quote_literal(s.srvtype), 'VERSION ' || quote_literal(s.srvversion),
    'WRAPPER ' || (SELECT quote_ident(w.fdwname) FROM pg_foreign_data_wrapper w WHERE w.oid = s.srvfdw),
    'OPTIONS (' || (SELECT string_agg(quote_literal(o), ', ' ORDER BY o COLLATE "C") FROM unnest(s.srvoptions) o) || ')',
    'OWNER ' || quote_ident(pg_get_userbyid(s.srvowner)))
FROM pg_foreign_server s
WHERE s.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_foreign_server'::regclass)
UNION ALL
-- 16 bits of a value's digest: enough to see a change, too few to find a password by
SELECT 'user mapping for ' || quote_ident(u.usename) || ' on ' || quote_ident(u.srvname),
  'OPTIONS (' || coalesce((
    SELECT string_agg(quote_ident(split_part(o, '=', 1)) || ' ' || left(encode(sha256(convert_to(o, 'UTF8')), 'hex'), 4),
                      ', ' ORDER BY o COLLATE "C") FROM unnest(u.umoptions) o), '') || ')'
FROM pg_user_mappings u
