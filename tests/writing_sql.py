"""Tells SQL that only reads from SQL that writes, or that may: what is not known to read is taken to write."""

from __future__ import annotations

import re

_WRITES = re.compile(
    r"(alter|create|drop|grant|revoke|insert|update|delete|truncate|comment|commit|end|analyze|vacuum|refresh|reindex"
    r"|call|do|copy|prepare|execute|merge|cluster|security|reassign|import|notify|checkpoint|load|replace)\b",
    re.IGNORECASE,
)
_READS = re.compile(
    r"(begin|start|set|savepoint|rollback|abort|reset|release|select|show|with|pragma|declare|fetch|move|close|table"
    r"|values|explain|lock|listen|unlisten|discard)\b",
    re.IGNORECASE,
)
# Somewhere in a statement that begins as one that reads.
_WRITES_INSIDE = (
    (re.compile(r"[()]\s*(insert\s+into|update|delete\s+from|merge\s+into)\s", re.IGNORECASE), "a query that writes"),
    (re.compile(r"\bselect\b[^;]*?\binto\s+(?!strict\b)\w", re.IGNORECASE), "select into"),
)
_EXPLAINED = re.compile(r"explain\s+(?:\(([^)]*)\)\s*)?((?:analyze\s+|verbose\s+)*)(.*)", re.IGNORECASE | re.DOTALL)
_APART = re.compile(
    r"(?P<text>'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)|--[^\n]*|/\*.*?\*/", re.DOTALL
)  # what is quoted, and comments
_CALL = re.compile(r"(?<![\w.\"{}])((?:[a-z_]\w*\.)*[a-z_]\w*)\(", re.IGNORECASE)

# All that the package's SQL calls, and that changes nothing: a new one is looked at by whoever adds it.
_READING = """
    abs acldefault aclexplode all and any array array_agg array_length array_position array_to_string
    aurora_db_instance_identifier avg bool_and bool_or cardinality cast char_length clock_timestamp coalesce concat
    concat_ws count current_database current_schema current_schemas current_setting date_trunc exists extract filter
    format format_type generate_series greatest has_any_column_privilege has_column_privilege has_database_privilege
    has_function_privilege has_schema_privilege has_sequence_privilege has_table_privilege hash_record_extended
    hashtextextended host in inet_server_addr int8send json_agg json_build_object json_each json_object_agg
    jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_build_object jsonb_object_agg least left length
    lo_get lower max md5 min not now nullif numeric obj_description octet_length on operator or over
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid pg_blocking_pids pg_control_system
    pg_current_snapshot pg_current_wal_lsn pg_current_xact_id pg_current_xact_id_if_assigned
    pg_database_collation_actual_version pg_database_size pg_describe_object pg_encoding_to_char pg_export_snapshot
    pg_get_constraintdef pg_get_expr pg_get_functiondef pg_get_indexdef pg_get_serial_sequence pg_get_userbyid
    pg_get_viewdef pg_has_role pg_identify_object pg_is_in_recovery pg_ls_dir pg_ls_tmpdir pg_partition_tree
    pg_postmaster_start_time pg_relation_filenode pg_relation_size pg_snapshot_xip pg_table_size
    pg_tablespace_location pg_total_relation_size pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
    pg_typeof pg_wal_lsn_diff pg_walfile_name pg_xact_status position quick_check quote_ident quote_literal
    quote_nullable random regexp_match regexp_replace replace right row row_number row_security_active row_to_json
    select set_config shobj_description some split_part starts_with string_agg string_to_array substr substring sum
    textin timestamptz to_char to_json to_jsonb to_regclass to_regnamespace to_regproc to_regprocedure to_regrole
    to_regtype trim unnest upper using values varchar where
"""
READING = frozenset(_READING.split())
_READING_PREFIXES = ("pg_stat_get_", "pg_column_")


def what_it_writes(text: str) -> str:
    """What in the statements of a text writes or may write; empty where each of them only reads."""
    for statement in _bare(text).split(";"):
        found = _of_one(statement.strip().lstrip("(").lstrip())
        if found:
            return found
    return ""


def reads(text: str) -> bool:
    """Whether a text begins as a statement that reads."""
    return _READS.match(_bare(text).strip().lstrip("(").lstrip()) is not None


def _bare(text: str) -> str:
    return _APART.sub(lambda found: "''" if found["text"] else " ", text)


def _of_one(statement: str) -> str:
    if _WRITES.match(statement):
        return " ".join(statement.split())[:60]
    if explained := _EXPLAINED.match(statement):
        options, words, rest = explained.groups()
        runs = re.search(r"\banalyze\b(?!\s+(false|off|0))", f"{options or ''} {words}", re.IGNORECASE)
        return _of_one(rest.strip()) if runs else ""
    if not _READS.match(statement):
        return _calls(statement)  # a part of one, such as what follows a name
    for pattern, what in _WRITES_INSIDE:
        if pattern.search(statement):
            return f"{what}: {' '.join(statement.split())[:60]}"
    return _calls(statement)


def _calls(statement: str) -> str:
    names = set(re.findall(r"(?:\bwith|\brecursive|,)\s+(\w+)\s*\(", statement, re.IGNORECASE))  # of queries
    names |= set(re.findall(r"\bas\s+(\w+)\(", statement, re.IGNORECASE))  # of a table and its columns
    names |= _aliases(statement)
    for called in _CALL.findall(statement):
        name = called.lower().removeprefix("pg_catalog.")
        if name in READING or name.startswith(_READING_PREFIXES) or called in names:
            continue
        return f"calls {called}(), which may write"
    return ""


def _aliases(statement: str) -> set[str]:
    """What stands behind a closing bracket and has columns: values (...) v(a, b), unnest(...) x(y)."""
    return set(re.findall(r"\)\s*(?:with\s+ordinality\s+)?(?:as\s+)?([a-z_]\w*)\(", statement, re.IGNORECASE))
