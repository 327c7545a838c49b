SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END
    || ns.q || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')',
  pg_get_functiondef(p.oid) || ' OWNER ' || quote_ident(pg_get_userbyid(p.proowner))
FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace
WHERE p.prokind <> 'a'
  -- those of an extension, and those that come with a range type
  AND p.oid NOT IN (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT 'aggregate ' || ns.q || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')',
  concat_ws(' ',
    'RETURNS ' || pg_get_function_result(p.oid),
    'STYPE ' || format_type(a.aggtranstype, NULL), 'MSTYPE ' || format_type(nullif(a.aggmtranstype, 0), NULL),
    'SORTOP ' || nullif(a.aggsortop, 0)::regoperator::text,
    quote_literal((to_jsonb(a) - '{aggfnoid,aggtranstype,aggmtranstype,aggsortop}'::text[])::text),
    'PARALLEL ' || p.proparallel::text,
    'OWNER ' || quote_ident(pg_get_userbyid(p.proowner)))
FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid JOIN ns ON ns.oid = p.pronamespace
WHERE p.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_proc'::regclass)
