SELECT 'operator ' || o.oid::regoperator::text,
  concat_ws(' ', 'RETURNS ' || format_type(nullif(o.oprresult, 0), NULL), 'FUNCTION ' || o.oprcode::text,
    'COMMUTATOR ' || nullif(o.oprcom, 0)::regoperator::text, 'NEGATOR ' || nullif(o.oprnegate, 0)::regoperator::text,
    'RESTRICT ' || o.oprrest::text, 'JOIN ' || o.oprjoin::text, CASE WHEN o.oprcanhash THEN 'HASHES' END,
    CASE WHEN o.oprcanmerge THEN 'MERGES' END, 'OWNER ' || quote_ident(pg_get_userbyid(o.oprowner)))
FROM pg_operator o JOIN ns ON ns.oid = o.oprnamespace
WHERE o.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_operator'::regclass)
UNION ALL
SELECT 'operator family ' || ns.q || '.' || quote_ident(f.opfname) || ' USING ' || quote_ident(am.amname),
  concat_ws(' ',
    (SELECT string_agg(concat_ws(' ', 'OPERATOR', a.amopstrategy, a.amopopr::regoperator::text,
                                 'FOR ORDER BY ' || (
                                   SELECT quote_ident(s.opfname) FROM pg_opfamily s WHERE s.oid = a.amopsortfamily)), ', '
                       ORDER BY a.amopstrategy, a.amopopr::regoperator::text COLLATE "C")
     FROM pg_amop a WHERE a.amopfamily = f.oid),
    (SELECT string_agg(concat_ws(' ', 'FUNCTION', p.amprocnum, format_type(p.amproclefttype, NULL),
                                 format_type(p.amprocrighttype, NULL), p.amproc::regprocedure::text), ', '
                       ORDER BY p.amprocnum, p.amproc::regprocedure::text COLLATE "C")
     FROM pg_amproc p WHERE p.amprocfamily = f.oid),
    'OWNER ' || quote_ident(pg_get_userbyid(f.opfowner)))
FROM pg_opfamily f JOIN pg_am am ON am.oid = f.opfmethod JOIN ns ON ns.oid = f.opfnamespace
WHERE f.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_opfamily'::regclass)
UNION ALL
SELECT 'operator class ' || ns.q || '.' || quote_ident(o.opcname) || ' USING ' || quote_ident(am.amname),
  concat_ws(' ', 'FOR ' || format_type(o.opcintype, NULL), 'STORAGE ' || format_type(nullif(o.opckeytype, 0), NULL),
    CASE WHEN o.opcdefault THEN 'DEFAULT' END,
    'FAMILY ' || (SELECT quote_ident(n.nspname) || '.' || quote_ident(f.opfname) FROM pg_opfamily f
                  JOIN pg_namespace n ON n.oid = f.opfnamespace WHERE f.oid = o.opcfamily),
    'OWNER ' || quote_ident(pg_get_userbyid(o.opcowner)))
FROM pg_opclass o JOIN pg_am am ON am.oid = o.opcmethod JOIN ns ON ns.oid = o.opcnamespace
WHERE o.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_opclass'::regclass)
UNION ALL
SELECT 'cast ' || format_type(c.castsource, NULL) || ' AS ' || format_type(c.casttarget, NULL),
  concat_ws(' ', nullif(c.castfunc, 0)::regprocedure::text,
    CASE c.castmethod WHEN 'i' THEN 'INOUT' WHEN 'b' THEN 'BINARY' END,
    CASE c.castcontext WHEN 'i' THEN 'IMPLICIT' WHEN 'a' THEN 'ASSIGNMENT' ELSE 'EXPLICIT' END)
FROM pg_cast c
WHERE c.oid >= 16384 AND c.oid NOT IN (SELECT d.objid FROM pg_depend d
                                       WHERE d.classid = 'pg_cast'::regclass AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT 'transform for ' || format_type(t.trftype, NULL) || ' LANGUAGE ' || quote_ident(l.lanname),
  concat_ws(' ', 'FROM ' || nullif(t.trffromsql, 0)::regprocedure::text, 'TO ' || nullif(t.trftosql, 0)::regprocedure::text)
FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang
WHERE t.oid >= 16384 AND t.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_transform'::regclass)
UNION ALL
SELECT 'language ' || quote_ident(l.lanname),
  concat_ws(' ', CASE WHEN l.lanpltrusted THEN 'TRUSTED' END, nullif(l.lanplcallfoid, 0)::regprocedure::text,
    nullif(l.laninline, 0)::regprocedure::text, nullif(l.lanvalidator, 0)::regprocedure::text,
    'OWNER ' || quote_ident(pg_get_userbyid(l.lanowner)))
FROM pg_language l
WHERE l.oid >= 16384 AND l.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_language'::regclass)
UNION ALL
SELECT 'access method ' || quote_ident(a.amname), a.amhandler::text || ' ' || a.amtype::text
FROM pg_am a WHERE a.oid >= 16384 AND a.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_am'::regclass)
