SELECT 'text search configuration ' || ns.q || '.' || quote_ident(c.cfgname),
  concat_ws(' ',
    'PARSER ' || (SELECT quote_ident(n.nspname) || '.' || quote_ident(p.prsname) FROM pg_ts_parser p
                  JOIN pg_namespace n ON n.oid = p.prsnamespace WHERE p.oid = c.cfgparser),
    (SELECT string_agg(k.alias || ' WITH ' || m.dict::regdictionary::text, ', ' ORDER BY k.alias COLLATE "C", m.mapseqno)
     FROM pg_ts_config_map f, LATERAL (SELECT f.mapdict AS dict, f.mapseqno) m, ts_token_type(c.cfgparser) k
     WHERE f.mapcfg = c.oid AND k.tokid = f.maptokentype),
    'OWNER ' || quote_ident(pg_get_userbyid(c.cfgowner)))
FROM pg_ts_config c JOIN ns ON ns.oid = c.cfgnamespace
WHERE c.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_ts_config'::regclass)
UNION ALL
SELECT 'text search dictionary ' || ns.q || '.' || quote_ident(d.dictname),
  concat_ws(' ',
    'TEMPLATE ' || (SELECT quote_ident(n.nspname) || '.' || quote_ident(t.tmplname) FROM pg_ts_template t
                    JOIN pg_namespace n ON n.oid = t.tmplnamespace WHERE t.oid = d.dicttemplate),
    'OPTIONS ' || quote_literal(d.dictinitoption),
    'OWNER ' || quote_ident(pg_get_userbyid(d.dictowner)))
FROM pg_ts_dict d JOIN ns ON ns.oid = d.dictnamespace
WHERE d.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_ts_dict'::regclass)
UNION ALL
SELECT 'text search parser ' || ns.q || '.' || quote_ident(p.prsname),
  concat_ws(' ', p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype)
FROM pg_ts_parser p JOIN ns ON ns.oid = p.prsnamespace
WHERE p.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_ts_parser'::regclass)
UNION ALL
SELECT 'text search template ' || ns.q || '.' || quote_ident(t.tmplname), concat_ws(' ', t.tmplinit, t.tmpllexize)
FROM pg_ts_template t JOIN ns ON ns.oid = t.tmplnamespace
WHERE t.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_ts_template'::regclass)
