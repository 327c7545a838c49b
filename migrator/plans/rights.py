"""Which rights a login needs for what, in tiers, and which of them it has. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from migrator.config.models import Environment
from migrator.plans.tiers import Tier
from migrator.postgres.rights import Rights

_ORDER = (Tier.ONLINE, Tier.FENCE, Tier.SWAP, Tier.RECOVER)


@dataclass(frozen=True, kw_only=True)
class Need:
    """One right: what the role lacks without it, the statement that gives it, and whether it has it."""

    lacks: str  # in words, as a sentence about the role
    sql: str
    held: bool
    helpful: bool = False  # it goes without, and sees less


def of(tier: Tier, rights: Rights) -> list[Need]:
    """Every right of the tier, in the order in which they are given."""
    found = [*_connects(rights), *_reads(rights)] if tier is Tier.PLAN else [*_connects(rights), *_online(rights)]
    if tier in _ORDER[1:]:
        found += _fence(rights)
    if tier in _ORDER[2:]:
        found.append(
            Need(
                lacks=f"{rights.role} may not create databases",
                sql=f"ALTER ROLE {_name(rights.role)} CREATEDB;",
                held=rights.createdb or rights.superuser,
            )
        )
    if tier is Tier.RECOVER:
        found += _recover(rights)
    return [
        *{one.sql: one for one in found}.values(),  # one role may own what two tiers ask for
        Need(
            lacks=f"{rights.role} does not see what others' sessions do",
            sql=f"GRANT pg_monitor TO {_name(rights.role)};",
            held=rights.monitors,
            helpful=True,
        ),
    ]


def tier_of(environment: Environment) -> Tier:
    """What the runs of the environment need, as it is configured."""
    if "dump" in environment.backup.kinds and environment.backup.restore != "never":
        return Tier.RECOVER
    if environment.bluegreen or environment.way == "bluegreen" or "clone" in environment.backup.kinds:
        return Tier.SWAP
    return Tier.ONLINE if environment.maintenance.database == "none" else Tier.FENCE


def notes(tier: Tier, rights: Rights) -> list[str]:
    """What no right gives, and what one gives besides."""
    found = []
    owner = rights.owner
    if tier is Tier.ONLINE and owner != rights.role and any(o.name == owner and o.relations for o in rights.owners):
        found.append(f"{owner} owns the database too: a membership gives more than this tier")
        found.append("give the tables to the login itself, or to a role of their own, where that is too much")
    if tier is Tier.RECOVER and rights.extensions and not rights.superuser:
        found.append(f"only a superuser can restore: {', '.join(rights.extensions)} (extensions that are not trusted)")
    return found


def _connects(rights: Rights) -> Iterator[Need]:
    role = _name(rights.role)
    if not rights.exists:
        yield Need(lacks=f"there is no role {rights.role}", sql=f"CREATE ROLE {role} LOGIN;", held=False)
    for database, may in rights.connects:
        yield Need(
            lacks=f"{rights.role} may not connect to {database}",
            sql=f"GRANT CONNECT ON DATABASE {_name(database)} TO {role};",
            held=may,
        )


def _reads(rights: Rights) -> Iterator[Need]:
    role = _name(rights.role)
    for schema in rights.schemas:
        name = _name(schema.name)
        yield Need(
            lacks=f"{rights.role} may not use the schema {schema.name}",
            sql=f"GRANT USAGE ON SCHEMA {name} TO {role};",
            held=schema.usage,
        )
        for kind in ("TABLES", "SEQUENCES"):
            yield Need(
                lacks=f"{rights.role} may not read {schema.unread} tables, views or sequences of {schema.name}",
                sql=f"GRANT SELECT ON ALL {kind} IN SCHEMA {name} TO {role};",
                held=schema.unread == 0,
            )


def _online(rights: Rights) -> Iterator[Need]:
    role = _name(rights.role)
    for owner in rights.owners:
        if owner.relations and owner.name != rights.role:
            yield _member(
                rights,
                owner.name,
                lacks=f"{rights.role} does not own {owner.relations} tables, views or sequences of {owner.name}",
                held=owner.acted_for,
                superuser=owner.is_superuser,
            )
    for schema in rights.schemas:
        yield Need(
            lacks=f"{rights.role} may not create tables and indexes in the schema {schema.name}",
            sql=f"GRANT USAGE, CREATE ON SCHEMA {_name(schema.name)} TO {role};",
            held=schema.usage and schema.create,
        )


def _fence(rights: Rights) -> Iterator[Need]:
    if rights.owner != rights.role and all(
        owner.name != rights.owner or not owner.relations for owner in rights.owners
    ):
        yield _member(
            rights,
            rights.owner,
            lacks=f"{rights.role} does not own {rights.database} (its owner is {rights.owner})",
            held=rights.owns,
            superuser=False,
        )
    for owner in rights.owners:  # a dump and a full proof read them
        if owner.large_objects and not owner.relations and owner.name not in (rights.role, rights.owner):
            yield _member(
                rights,
                owner.name,
                lacks=f"{rights.role} may not read {owner.large_objects} large objects of {owner.name}",
                held=owner.acted_for,
                superuser=owner.is_superuser,
            )
    yield Need(
        lacks=f"{rights.role} may not end others' sessions",
        sql=f"GRANT pg_signal_backend TO {_name(rights.role)};",
        held=rights.signals,
    )


def _recover(rights: Rights) -> Iterator[Need]:
    """A restore gives everything its owner again."""
    for owner in rights.owners:
        if owner.others and not owner.relations and owner.name not in (rights.role, rights.owner):
            yield _member(
                rights,
                owner.name,
                lacks=f"{rights.role} cannot restore {owner.others} functions, types or schemas of {owner.name}",
                held=owner.acted_for,
                superuser=owner.is_superuser,
            )

    for name, schema in rights.strangers:
        yield Need(
            lacks=f"{name} owns objects in the schema {schema} and may not create any: a restore cannot give them back",
            sql=f"GRANT CREATE ON SCHEMA {_name(schema)} TO {_name(name)};",
            held=False,
        )


def _member(rights: Rights, owner: str, *, lacks: str, held: bool, superuser: bool) -> Need:
    """Membership, never in a superuser: what such a role owns is to be given to the login itself."""
    if superuser and not held:
        advice = f"-- ALTER ... OWNER TO {_name(rights.role)}; one by one: they belong to the superuser {owner}"
        return Need(lacks=f"{lacks}, a superuser", sql=advice, held=False)
    return Need(lacks=lacks, sql=f"GRANT {_name(owner)} TO {_name(rights.role)};", held=held)


def _name(name: str) -> str:
    """Quoted where PostgreSQL would have to."""
    plain = name.replace("_", "a")
    if name and plain.isascii() and plain.isalnum() and name == name.lower() and not name[0].isdigit():
        return name
    return sql.Identifier(name).as_string(None)
