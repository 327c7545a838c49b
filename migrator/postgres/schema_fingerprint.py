"""One line for every object of a database's schema, by catalogue queries that run in any transaction.

Equal after dump and restore into another database, and for uncommitted changes too, which pg_dump could not see. Names
carry their schema, OIDs and attribute numbers do not occur. Owners and grants count by the role's name.

Left out, because a dump does: the objects of extensions (their version counts), statistics, the place of a column
among those that a table inherits. Left out as well: what belongs to the database as such (its own grants, settings,
comment), to the server (roles, tablespaces), and the rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from migrator.postgres.catalog import oid_array
from migrator.postgres.deparsed import canonical
from migrator.postgres.reading import reading, unlocking
from migrator.postgres.session import Row, Session
from migrator.postgres.transactions import statement

_QUERIES = (
    "relations",
    "columns",
    "indexes",
    "constraints",
    "triggers",
    "sequences",
    "functions",
    "types",
    "operators",
    "text_search",
    "database",
    "annotations",
    "grants",
)
_VIEWS = "SELECT oid FROM pg_class WHERE relkind IN ('v', 'm') AND oid >= 16384 ORDER BY oid"
_VIEWS_AT_ONCE = 200  # printing a view locks what it reads


@dataclass(frozen=True, kw_only=True)
class SchemaDiff:
    """What differs: an object -> its line, or both lines. Empty when nothing does; then it is false."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]  # before, after

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def lines(self) -> list[str]:
        """For people: `+ object: line`, `- object: line`, both for what changed; in order of the objects."""
        marked = [(name, 1, f"+ {name}: {line}") for name, line in self.added.items()]
        marked += [(name, 0, f"- {name}: {line}") for name, line in self.removed.items()]
        for name, (before, after) in self.changed.items():
            marked += [(name, 0, f"- {name}: {before}"), (name, 1, f"+ {name}: {after}")]
        return [line for _, _, line in sorted(marked)]


@dataclass(frozen=True, kw_only=True)
class SchemaFingerprint:
    """The objects of one database's schema: `table public.orders`, `column public.orders.id`, ... -> definition."""

    objects: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all lines, in hexadecimal."""
        text = "\n".join(f"{name}\t{line}" for name, line in sorted(self.objects.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def diff(self, other: SchemaFingerprint) -> SchemaDiff:
        """What has to happen to this schema for it to become the other."""
        before, after = self.objects, other.objects
        return SchemaDiff(
            added={name: after[name] for name in sorted(after.keys() - before.keys())},
            removed={name: before[name] for name in sorted(before.keys() - after.keys())},
            changed={
                name: (before[name], after[name])
                for name in sorted(before.keys() & after.keys())
                if before[name] != after[name]
            },
        )

    def as_restored(self) -> SchemaFingerprint:
        """Without what a dump leaves out although it is there: invalid indexes, switched-off enforcement."""
        return SchemaFingerprint(
            objects={
                name: line
                for name, line in self.objects.items()
                if not (name.startswith("index ") and line.endswith(" INVALID"))
                and not name.startswith("enforcement of ")
            }
        )


def of_schema(session: Session) -> SchemaFingerprint:
    """The schema was read as the session's transaction sees it, its own uncommitted changes included.

    Without locks that last, whatever the search_path is. Safe to repeat. Raises: StepFailed.
    """
    objects: dict[str, str] = {}
    with reading(session):
        major = int(session.rows("SHOW server_version_num")[0][0] or 0) // 10000
        for name in _QUERIES:
            with unlocking(session):
                _note(objects, session.rows(_query(name, major)))
        views = [int(oid or 0) for (oid,) in session.rows(_VIEWS)]
        for start in range(0, len(views), _VIEWS_AT_ONCE):
            batch = views[start : start + _VIEWS_AT_ONCE]
            with unlocking(session):
                _note(objects, session.rows(statement(_query("views", major), oid_array(batch))))
    return SchemaFingerprint(objects=objects)


def _note(objects: dict[str, str], rows: list[Row]) -> None:
    for name, line in rows:
        key, found = _one_line(str(name)), canonical(line or "")
        # A view has a line of its own and a query; a switched-off foreign key several triggers.
        objects[key] = f"{objects[key]} | {found}" if key in objects else found


def _one_line(name: str) -> str:
    return name.replace("\r", "\\r").replace("\n", "\\n")


@cache
def _query(name: str, major: int) -> str:
    folder = files("migrator.postgres") / "schema_sql"
    kept: list[str] = []
    for part in ("_prelude", name):
        for line in (folder / f"{part}.sql").read_text(encoding="utf-8").splitlines():
            since = re.search(r"-- (\d+)\+$", line)
            if not line.lstrip().startswith("--") and (since is None or major >= int(since[1])):
                kept.append(line)
    return "\n".join(kept)
