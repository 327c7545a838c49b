SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'f' THEN 'foreign table '
       ELSE 'table ' END || c.q,
  concat_ws(' ',
    CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
    'COLUMNS (' || (
      SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        -- a restore puts the columns of an inheriting table behind those that it inherits
        AND (c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid))
    ) || ')',
    'OF ' || format_type(nullif(c.reloftype, 0), NULL),
    CASE WHEN c.relispartition THEN 'PARTITION OF ' ELSE 'INHERITS ' END || (
      SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i
      WHERE i.inhrelid = c.oid
    ),
    pg_get_expr(c.relpartbound, c.oid),
    CASE c.relkind WHEN 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(c.oid) END,
    'USING ' || (SELECT quote_ident(am.amname) FROM pg_am am WHERE am.oid = c.relam),
    'WITH (' || (SELECT string_agg(quote_literal(o), ', ' ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o) || ')',
    'TOAST WITH (' || (
      SELECT string_agg(quote_literal(o), ', ' ORDER BY o COLLATE "C") FROM pg_class t, unnest(t.reloptions) o
      WHERE t.oid = c.reltoastrelid
    ) || ')',
    'TABLESPACE ' || (SELECT quote_ident(s.spcname) FROM pg_tablespace s WHERE s.oid = c.reltablespace),
    CASE WHEN c.relkind IN ('r', 'p', 'm') THEN CASE c.relreplident WHEN 'n' THEN 'REPLICA IDENTITY NOTHING'
      WHEN 'f' THEN 'REPLICA IDENTITY FULL' WHEN 'i' THEN 'REPLICA IDENTITY INDEX' END END,
    CASE WHEN c.relrowsecurity THEN 'ROW SECURITY' END,
    CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW SECURITY' END,
    (SELECT 'SERVER ' || quote_ident(s.srvname) || ' OPTIONS (' || coalesce((
       SELECT string_agg(quote_literal(o), ', ' ORDER BY o COLLATE "C") FROM unnest(f.ftoptions) o), '') || ')'
     FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
    'OWNER ' || quote_ident(pg_get_userbyid(c.relowner)))
FROM rel c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
