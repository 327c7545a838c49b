-- Stands before every query of this folder. A query gives two columns: what it is about, and its definition.
-- A line that ends in "-- 15+" is for servers of that version and newer. Quote every free text: a definition is
-- read again as SQL tokens. search_path is pg_catalog, so every other name is printed with its schema.
WITH ns AS (
  SELECT n.oid, quote_ident(n.nspname) AS q FROM pg_namespace n
  WHERE n.nspname !~ '^(pg_catalog|information_schema|pg_toast|pg_temp_[0-9]+|pg_toast_temp_[0-9]+)$'
), member AS (
  -- an extension's objects: its version speaks for them
  SELECT d.classid, d.objid FROM pg_depend d WHERE d.deptype = 'e'
), rel AS (
  SELECT c.*, ns.q || '.' || quote_ident(c.relname) AS q FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE c.oid NOT IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_class'::regclass)
)
