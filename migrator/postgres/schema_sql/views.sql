SELECT CASE c.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || c.q, pg_get_viewdef(c.oid)
FROM rel c WHERE c.oid = ANY ({})
