"""The objects of a schema fingerprint as SQL that people read: for a comparison, not to be carried out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from migrator.postgres import schema_objects
from migrator.postgres.schema_objects import PART, QUALIFIED

_ESCAPED = re.compile(r"\\(.)")
_OWNER = re.compile(rf"(?:^| )OWNER ({PART})$")
_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\2\$)""", re.DOTALL)
_CLAUSE = re.compile(
    r" (?=(?:FROM|WHERE|GROUP BY|HAVING|WINDOW|ORDER BY|LIMIT|UNION|EXCEPT|INTERSECT"
    r"|(?:LEFT|RIGHT|FULL|CROSS) JOIN|(?<!LEFT )(?<!RIGHT )(?<!FULL )(?<!CROSS )JOIN)\b)"
)
_COLUMNS = re.compile(rf"^(UNLOGGED )?COLUMNS \((?:{PART}(?:, )?)*\) ?")
_AFTER_INDEX = re.compile(
    rf" (INVALID|CLUSTERED|REPLICA IDENTITY|STATISTICS \([^()]*\)|PARTITION OF {QUALIFIED}|TABLESPACE {PART})$"
)
_SWITCH = re.compile(r" (DISABLED|ENABLED REPLICA|ENABLED ALWAYS)$")
_ALL = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}  # of a table; newer servers: more
_OF_TABLE = {
    "ROW SECURITY": "ENABLE ROW LEVEL SECURITY",
    "FORCE ROW SECURITY": "FORCE ROW LEVEL SECURITY",
}


def of(identity: str, objects: Mapping[str, str]) -> str:
    """The object's statements, one a line or more; a table's with its columns and constraints."""
    kind, name = schema_objects.kind_of(identity), schema_objects.name_of(identity)
    line, owner = _without_owner(identity, _readable(objects[identity]))
    text = _PRINTERS.get(kind, partial(_anything, kind))(name, line, objects)
    if owner is not None and kind not in {"schema", "publication", "subscription", "event trigger"}:
        text += f"\nALTER {kind.upper()} {name} OWNER TO {owner};"
    return text


def is_inside(part: str, owner: str, objects: Mapping[str, str]) -> bool:
    """Whether `of(owner)` shows the part already: a column, a constraint, its index, an identity's sequence."""
    kind = schema_objects.kind_of(part)
    if kind == "column":  # of a view: its query tells
        return True
    if kind == "constraint":
        return owner.startswith("table ")
    if kind == "index":
        return constraint_of_index(part, objects) is not None
    serves = schema_objects.column_of_sequence(objects[part]) if kind == "sequence" else None
    return serves is not None and serves[1]


def constraint_of_index(identity: str, objects: Mapping[str, str]) -> str | None:
    """The constraint that the index enforces; None where it stands for itself."""
    relation = schema_objects.relation_of(identity, objects)
    bare = re.search(rf"\.({PART})$", identity)
    constraint = f"constraint {bare[1]} on {relation}" if bare else ""
    return constraint if constraint in objects else None


def _readable(line: str) -> str:
    """The line with the line ends that the fingerprint has put on one line."""
    return _ESCAPED.sub(lambda one: {"n": "\n", "r": "\r"}.get(one[1], one[1]), line)


def _without_owner(identity: str, line: str) -> tuple[str, str | None]:
    if identity.startswith(("view ", "materialized view ")):  # its line and its query
        head, bar, query = line.partition(" | ")
        if not bar or head.startswith("SELECT"):
            head, query = query, head
        found = _OWNER.search(head)
        return query.strip(), found[1] if found else None
    found = _OWNER.search(line)
    return (line[: found.start()], found[1]) if found else (line, None)


def _table(name: str, line: str, objects: Mapping[str, str]) -> str:
    columns = _COLUMNS.match(line)
    rest = line[columns.end() :] if columns else line
    after: list[str] = []
    for words, statement in _OF_TABLE.items():
        if rest.endswith(words) or f"{words} " in rest:
            after.append(f"ALTER TABLE {name} {statement};")
    rest = re.sub(r"\b(?:FORCE )?ROW SECURITY\b", "", rest)
    if found := re.search(r"REPLICA IDENTITY \w+", rest):
        after.append(f"ALTER TABLE {name} {found[0]};")
        rest = rest.replace(found[0], "")
    rest = " ".join(rest.replace("USING heap", "").split())
    body = _columns(name, line, objects)
    marked = f" on {name}"
    body += [
        f"  CONSTRAINT {identity.removeprefix('constraint ').removesuffix(marked)} {_readable(definition)}"
        for identity, definition in sorted(objects.items())
        if identity.startswith("constraint ") and identity.endswith(marked) and not definition.startswith("NOT NULL ")
    ]
    unlogged = "UNLOGGED " if columns and columns[1] else ""
    text = f"CREATE {unlogged}TABLE {name} (\n" + ",\n".join(body) + f"\n){f' {rest}' if rest else ''};"
    return "\n".join([text, *after])


def _columns(name: str, line: str, objects: Mapping[str, str]) -> list[str]:
    """In the table's order, as far as its line tells."""
    listed = re.search(rf"(?:COLUMNS|COMPOSITE) \(((?:{PART}(?:, )?)*)\)", line)
    order = re.findall(PART, listed[1]) if listed else []
    prefix = f"column {name}."
    own = {identity.removeprefix(prefix): text for identity, text in objects.items() if identity.startswith(prefix)}
    ordered = [
        *(column for column in order if column in own),
        *(column for column in sorted(own) if column not in order),
    ]
    return [f"  {column} {_column_text(own[column])}" for column in ordered]


def _column_text(line: str) -> str:
    """A generated column's expression stands where SQL wants it."""
    generated = re.search(r"GENERATED (STORED|VIRTUAL) (.*)$", _readable(line), re.DOTALL)
    if generated is None:
        return _readable(line)
    expression = generated[2] if generated[2].startswith("(") else f"({generated[2]})"
    return f"{_readable(line)[: generated.start()]}GENERATED ALWAYS AS {expression} {generated[1]}"


def _column(name: str, line: str, _objects: Mapping[str, str]) -> str:
    found = re.match(rf"({QUALIFIED})\.({PART})$", name)
    table, column = (found[1], found[2]) if found else (name, "")
    return f"ALTER TABLE {table} ADD COLUMN {column} {_column_text(line)};"


def _view(kind: str, name: str, query: str, _objects: Mapping[str, str]) -> str:
    return f"CREATE {kind} {name} AS\n{_reflowed(query).rstrip('; ')};"


def _index(_name: str, line: str, _objects: Mapping[str, str]) -> str:
    marks: list[str] = []
    while found := _AFTER_INDEX.search(line):
        marks.insert(0, found[1])
        line = line[: found.start()]
    return f"{line};{f'  -- {chr(44).join(marks)}' if marks else ''}"


def _on_table(verb: str, name: str, line: str, _objects: Mapping[str, str]) -> str:
    own, _, table = name.rpartition(" on ")
    if verb == "CONSTRAINT":
        domain = table.startswith("domain ") or own.endswith(" domain")
        target = f"DOMAIN {table.removeprefix('domain ')}" if domain else f"TABLE {table}"
        return f"ALTER {target} ADD CONSTRAINT {own} {line};"
    return f"CREATE POLICY {own} ON {table} AS {line};"


def _switched(_name: str, line: str, _objects: Mapping[str, str]) -> str:
    found = _SWITCH.search(line)
    return f"{line[: found.start()]};  -- {found[1]}" if found else f"{line};"


def _function(_name: str, line: str, _objects: Mapping[str, str]) -> str:
    head, dollar, body = line.partition("$")
    head = re.sub(r" (?=RETURNS |LANGUAGE |AS $|BEGIN ATOMIC|RETURN )", "\n ", head)
    return f"{head}{dollar}{body};"


def _sequence(name: str, line: str, _objects: Mapping[str, str]) -> str:
    line = re.sub(r"\bMIN\b", "MINVALUE", re.sub(r"\bMAX\b", "MAXVALUE", line))
    if (serves := re.search(r" IDENTITY OF .*$", line)) is not None:
        return f"CREATE SEQUENCE {name} {line[: serves.start()]};  --{serves[0]}"
    unlogged = "UNLOGGED " if line.startswith("UNLOGGED ") else ""
    return f"CREATE {unlogged}SEQUENCE {name} {line.removeprefix('UNLOGGED ')};"


def _type(name: str, line: str, objects: Mapping[str, str]) -> str:
    if line.startswith("COMPOSITE"):
        return f"CREATE TYPE {name} AS (\n" + ",\n".join(_columns(name, line, objects)) + "\n);"
    if line.startswith("ENUM"):
        labels = line.removeprefix("ENUM (").removesuffix(")")
        return f"CREATE TYPE {name} AS ENUM (\n  " + labels.replace("', '", "',\n  '") + "\n);"
    return f"CREATE TYPE {name} AS {line};"


def _schema(name: str, line: str, _objects: Mapping[str, str]) -> str:
    return f"CREATE SCHEMA {name}{f' AUTHORIZATION {line[6:]}' if line.startswith('OWNER ') else ''};"


def _created(word: str, name: str, line: str, _objects: Mapping[str, str]) -> str:
    return f"CREATE {word} {name} {line};"


def _comment(name: str, line: str, _objects: Mapping[str, str]) -> str:
    return f"COMMENT ON {_upper_kind(name)} IS {line};"


def _grants(name: str, line: str, _objects: Mapping[str, str]) -> str:
    about = _upper_kind(name)
    if line == "nobody":
        return f"REVOKE ALL ON {about} FROM PUBLIC;  -- nobody has any right"
    entries = re.findall(rf"(\w+(?: \w+)*?) TO ({PART}) BY ({PART})( WITH GRANT OPTION)?", line)
    granted: dict[tuple[str, str, str], list[str]] = {}
    for privilege, grantee, grantor, option in entries:
        granted.setdefault((grantee, grantor, option), []).append(privilege)
    return "\n".join(
        f"GRANT {'ALL' if set(privileges) >= _ALL else ', '.join(privileges)} ON {about} TO {grantee}{option};"
        f"  -- by {grantor}"
        for (grantee, grantor, option), privileges in granted.items()
    )


def _upper_kind(name: str) -> str:
    """`table column public.orders.id` with its words as SQL writes them."""
    words = re.match(r"[a-z ]+(?= )", name)
    if words is None:
        return name
    kind = words[0].removeprefix("table ") if "column" in words[0] or "constraint" in words[0] else words[0]
    return f"{kind.upper()}{name[words.end() :]}"


def _anything(kind: str, name: str, line: str, _objects: Mapping[str, str]) -> str:
    return f"-- {kind} {name}: {line}"


def _reflowed(query: str) -> str:
    """A query on several lines: one a clause, and one a column of the outermost list."""
    depth = 0
    text = ""
    for number, piece in enumerate(_pieces(query)):
        if number % 2:
            text += piece
            continue
        for part in re.split(r"([()]|, )", _CLAUSE.sub("\n", piece)):
            depth += (part == "(") - (part == ")")
            text += ",\n  " if part == ", " and depth == 0 else part.replace("\n", "\n" + "  " * depth)
    return text


def _pieces(query: str) -> list[str]:
    """SQL and quoted text in turns, SQL first."""
    pieces: list[str] = []
    end = 0
    for found in _QUOTED.finditer(query):
        pieces += [query[end : found.start()], found[0]]
        end = found.end()
    return [*pieces, query[end:]]


_Printer = Callable[[str, str, Mapping[str, str]], str]
_PRINTERS: Mapping[str, _Printer] = {
    "table": _table,
    "column": _column,
    "view": partial(_view, "VIEW"),
    "materialized view": partial(_view, "MATERIALIZED VIEW"),
    "foreign table": _table,
    "index": _index,
    "constraint": partial(_on_table, "CONSTRAINT"),
    "policy": partial(_on_table, "POLICY"),
    "trigger": _switched,
    "rule": _switched,
    "function": _function,
    "procedure": _function,
    "sequence": _sequence,
    "type": _type,
    "domain": partial(_created, "DOMAIN"),
    "schema": _schema,
    "extension": partial(_created, "EXTENSION"),
    "statistics": _switched,
    "comment on": _comment,
    "grants on": _grants,
}
