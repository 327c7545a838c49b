SELECT 'trigger ' || quote_ident(t.tgname) || ' on ' || c.q,
  pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED'
    WHEN 'R' THEN ' ENABLED REPLICA' ELSE ' ENABLED ALWAYS' END
FROM rel c JOIN pg_trigger t ON t.tgrelid = c.oid
WHERE NOT t.tgisinternal OR (t.tgparentid <> 0 AND t.tgconstraint = 0)
UNION ALL
-- a foreign key whose own triggers are switched off is no foreign key
SELECT 'enforcement of ' || quote_ident(k.conname) || ' on ' || c.q,
  t.tgfoid::regproc::text || CASE t.tgenabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' REPLICA' ELSE ' ALWAYS' END
FROM rel c JOIN pg_trigger t ON t.tgrelid = c.oid JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE t.tgisinternal AND t.tgenabled <> 'O'
UNION ALL
SELECT 'rule ' || quote_ident(r.rulename) || ' on ' || c.q,
  pg_get_ruledef(r.oid) || CASE r.ev_enabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED'
    WHEN 'R' THEN ' ENABLED REPLICA' ELSE ' ENABLED ALWAYS' END
FROM rel c JOIN pg_rewrite r ON r.ev_class = c.oid WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'policy ' || quote_ident(p.polname) || ' on ' || c.q,
  concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
      ELSE 'ALL' END,
    'TO ' || (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', '
                                ORDER BY pg_get_userbyid(o)) FROM unnest(p.polroles) o),
    'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
    'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
FROM rel c JOIN pg_policy p ON p.polrelid = c.oid
