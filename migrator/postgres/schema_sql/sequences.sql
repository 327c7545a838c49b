SELECT 'sequence ' || c.q,
  concat_ws(' ',
    CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
    'AS ' || format_type(s.seqtypid, NULL),
    'START ' || s.seqstart, 'INCREMENT ' || s.seqincrement, 'MIN ' || s.seqmin, 'MAX ' || s.seqmax,
    'CACHE ' || s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' END,
    (SELECT CASE d.deptype WHEN 'i' THEN 'IDENTITY OF ' ELSE 'OWNED BY ' END || d.refobjid::regclass::text || '.'
            || quote_ident(a.attname)
     FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i')),
    'OWNER ' || quote_ident(pg_get_userbyid(c.relowner)))
FROM rel c JOIN pg_sequence s ON s.seqrelid = c.oid
UNION ALL
SELECT 'statistics ' || ns.q || '.' || quote_ident(s.stxname),
  concat_ws(' ', pg_get_statisticsobjdef(s.oid), 'STATISTICS ' || nullif(s.stxstattarget, -1),
    'OWNER ' || quote_ident(pg_get_userbyid(s.stxowner)))
FROM pg_statistic_ext s JOIN ns ON ns.oid = s.stxnamespace
WHERE s.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_statistic_ext'::regclass)
