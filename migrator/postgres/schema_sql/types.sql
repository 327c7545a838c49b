SELECT CASE t.typtype WHEN 'd' THEN 'domain ' ELSE 'type ' END || ns.q || '.' || quote_ident(t.typname),
  concat_ws(' ',
    CASE t.typtype
      WHEN 'e' THEN 'ENUM (' || coalesce((
        SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e
        WHERE e.enumtypid = t.oid), '') || ')'
      WHEN 'd' THEN concat_ws(' ', 'AS ' || format_type(t.typbasetype, t.typtypmod),
        CASE WHEN t.typcollation <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = t.typbasetype)
          THEN 'COLLATE ' || t.typcollation::regcollation::text END,
        CASE WHEN t.typnotnull THEN 'NOT NULL' END,
        'DEFAULT ' || coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)))
      WHEN 'r' THEN (
        SELECT concat_ws(' ', 'RANGE OF ' || format_type(r.rngsubtype, NULL),
          'OPCLASS ' || (SELECT quote_ident(n.nspname) || '.' || quote_ident(o.opcname) FROM pg_opclass o
                         JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = r.rngsubopc),
          'COLLATE ' || nullif(r.rngcollation, 0)::regcollation::text,
          'CANONICAL ' || nullif(r.rngcanonical, 0)::regprocedure::text,
          'SUBDIFF ' || nullif(r.rngsubdiff, 0)::regprocedure::text,
          'MULTIRANGE ' || format_type(r.rngmultitypid, NULL))
        FROM pg_range r WHERE r.rngtypid = t.oid)
      WHEN 'c' THEN 'COMPOSITE (' || coalesce((
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '') || ')'
      WHEN 'p' THEN 'SHELL'
      ELSE concat_ws(' ', 'BASE',
        quote_literal((to_jsonb(t) - '{oid,typname,typnamespace,typowner,typrelid,typelem,typarray,typbasetype,typcollation,typdefaultbin,typacl}'::text[])::text),
        'ELEMENT ' || format_type(nullif(t.typelem, 0), NULL), 'COLLATE ' || nullif(t.typcollation, 0)::regcollation::text)
    END,
    'OWNER ' || quote_ident(pg_get_userbyid(t.typowner)))
FROM pg_type t JOIN ns ON ns.oid = t.typnamespace
WHERE t.typtype <> 'm'
  AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
  AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = t.oid)
  AND t.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_type'::regclass)
UNION ALL
SELECT 'collation ' || ns.q || '.' || quote_ident(c.collname),
  -- without the version and the encoding: a restore notes what it finds
  quote_literal((to_jsonb(c) - '{oid,collname,collnamespace,collowner,collversion,collencoding}'::text[])::text)
    || ' OWNER ' || quote_ident(pg_get_userbyid(c.collowner))
FROM pg_collation c JOIN ns ON ns.oid = c.collnamespace
WHERE c.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_collation'::regclass)
UNION ALL
SELECT 'conversion ' || ns.q || '.' || quote_ident(c.conname),
  concat_ws(' ', pg_encoding_to_char(c.conforencoding), pg_encoding_to_char(c.contoencoding), c.conproc::text,
    CASE WHEN c.condefault THEN 'DEFAULT' END, 'OWNER ' || quote_ident(pg_get_userbyid(c.conowner)))
FROM pg_conversion c JOIN ns ON ns.oid = c.connamespace
WHERE c.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_conversion'::regclass)
