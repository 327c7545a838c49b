SELECT 'index ' || ns.q || '.' || quote_ident(x.relname),
  concat_ws(' ',
    pg_get_indexdef(x.oid),
    'TABLESPACE ' || (SELECT quote_ident(s.spcname) FROM pg_tablespace s WHERE s.oid = x.reltablespace),
    'PARTITION OF ' || (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = x.oid),
    'STATISTICS (' || (
      SELECT string_agg(a.attnum || ' ' || a.attstattarget, ', ' ORDER BY a.attnum) FROM pg_attribute a
      WHERE a.attrelid = x.oid AND a.attstattarget >= 0
    ) || ')',
    CASE WHEN i.indisclustered THEN 'CLUSTERED' END,
    CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END,
    CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'INVALID' END)
FROM rel c JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
JOIN ns ON ns.oid = x.relnamespace
WHERE c.relkind IN ('r', 'p', 'm')
