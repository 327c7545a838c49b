"""What has changed since a plan was made, in words; nothing where its digest still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from migrator.plans.plan import Plan, PlannedChangeset

_SHOWN = 3


def between(given: Plan, now: Plan) -> list[str]:
    """One sentence for each thing that is another one now; empty where nothing is."""
    if given.computed_digest == now.computed_digest:
        return []
    found = list(_all(given, now))
    return found or ["the plan was written by another version of migrator"]


def _all(given: Plan, now: Plan) -> Iterator[str]:
    for name in ("environment", "server", "database", "changelog", "way", "fallback"):
        yield from _value(name, getattr(given, name), getattr(now, name))
    yield from _changesets(given.changesets, now.changesets)
    yield from _mapping(
        "backfill",
        {one.name: one.checksum for one in given.backfills},
        {one.name: one.checksum for one in now.backfills},
        shows=False,
    )
    yield from _mapping("what is required by", given.requires, now.requires, shows=False)
    yield from _mapping("changelog file", given.files, now.files, shows=False)
    yield from _mapping("parameter", given.parameters, now.parameters, shows=False)
    yield from _mapping("setting", given.settings, now.settings, shows=True)
    yield from _mapping("check", given.checks, now.checks, shows=False)
    yield from _mapping("version of", given.versions, now.versions, shows=True)
    yield from _mapping("schema:", given.schema_objects, now.schema_objects, shows=False)


def _value(name: str, was: object, now: object) -> Iterator[str]:
    if was != now:
        yield f"{name} was {_shown(was)}, is {_shown(now)}"


def _mapping(what: str, was: Mapping[str, object], now: Mapping[str, object], *, shows: bool) -> Iterator[str]:
    yield from _listed(f"{what} {{}} is new", [name for name in now if name not in was])
    yield from _listed(f"{what} {{}} is gone", [name for name in was if name not in now])
    other = [name for name in was if name in now and was[name] != now[name]]
    if shows:
        for name in other:
            yield from _value(f"{what} {name}", was[name], now[name])
    else:
        yield from _listed(f"{what} {{}} has changed", other)


def _changesets(was: Sequence[PlannedChangeset], now: Sequence[PlannedChangeset]) -> Iterator[str]:
    before, after = {one.key: one for one in was}, {one.key: one for one in now}
    yield from _listed("changeset {} is new", [key for key in after if key not in before])
    yield from _listed("changeset {} is no longer pending", [key for key in before if key not in after])
    both = [key for key in before if key in after]
    edited = [key for key in both if before[key].checksum != after[key].checksum]
    yield from _listed("changeset {} was edited", edited)
    same = [key for key in both if key not in set(edited)]
    yield from _listed("the SQL of changeset {} has changed", [k for k in same if before[k].sql != after[k].sql])
    undoes = [
        k
        for k in same
        if (before[k].rollback_sql, before[k].has_rollback) != (after[k].rollback_sql, after[k].has_rollback)
    ]
    yield from _listed("the rollback of changeset {} has changed", undoes)
    fields = ("in_transaction", "fails_quietly", "runs_again")
    others = [k for k in same if any(getattr(before[k], one) != getattr(after[k], one) for one in fields)]
    yield from _listed("how changeset {} runs has changed", others)
    if [key for key in before if key in after] != [key for key in after if key in before]:
        yield "the changesets come in another order"


def _listed(sentence: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f" (and {len(names) - _SHOWN} more)" if names[_SHOWN:] else ""
        yield sentence.format(", ".join(names[:_SHOWN]) + more)


def _shown(value: object) -> str:
    return "none" if value is None or value == "" else str(value)
