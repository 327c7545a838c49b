"""What a fence is: its description, and which properties of a database it changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from migrator.postgres import database_settings, grants
from migrator.postgres.database_settings import Setting
from migrator.postgres.grants import CONNECT, Grant
from migrator.postgres.properties import DatabaseProperties

PREFIX = "migrator-fence:"
VERSION = 1
_NO_LIMIT = -1
_READ_ONLY = Setting(role=None, name="default_transaction_read_only", value="on")


class Mode(StrEnum):
    NONE = "none"  # describes itself, holds nobody
    READ_ONLY = "read-only"
    OFFLINE = "offline"


@dataclass(frozen=True, kw_only=True)
class Fence:
    run_id: str
    mode: Mode
    keep_user: str  # the login that keeps CONNECT
    environment: str | None = None
    reason: str | None = None
    since: datetime  # by the server's clock
    until: datetime | None = None  # when it is expected to end; nothing ends it by itself
    way: str | None = None
    phase: str | None = None
    xid: str  # of the transaction that put it up: what is older may have begun before it
    previous: DatabaseProperties
    reopened: tuple[Grant, ...] = ()  # CONNECT granted while it stood, and taken away when it was put up again
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_comment(self) -> str:
        """The database's comment while it stands: one line, ASCII only, as databases may differ in encoding."""
        return PREFIX + json.dumps({"version": VERSION, **asdict(self)}, default=datetime.isoformat)

    @classmethod
    def from_comment(cls, comment: str) -> Fence:
        """The fence that `to_comment` described. Raises: ValueError when it is damaged, or of another version."""
        from pydantic import TypeAdapter

        data = json.loads(comment.removeprefix(PREFIX))
        if not isinstance(data, dict) or data.pop("version", None) != VERSION:
            raise ValueError(f"this migrator reads version {VERSION} of a fence's description")
        return TypeAdapter(cls).validate_python(data)

    def __str__(self) -> str:
        parts = [f"run {self.run_id}", f"{self.mode} since {_shown(self.since)}"]
        if self.until is not None:
            parts.append(f"until {_shown(self.until)}")
        named = {"environment": self.environment, "way": self.way, "phase": self.phase, "reason": self.reason}
        return ", ".join(parts + [f"{name} {value}" for name, value in named.items() if value])


def is_fence(comment: str | None) -> bool:
    return comment is not None and comment.startswith(PREFIX)


def fenced(now: DatabaseProperties, fence: Fence) -> DatabaseProperties:
    """The properties that hold while the fence stands, its description among them."""
    held = replace(now, comment=fence.to_comment())
    match fence.mode:
        case Mode.OFFLINE:
            acl = grants.connect_only_for(fence.keep_user, owner=now.owner, grants=now.effective_acl)
            # nobody else can come in, and a run needs more sessions than a limit made for an application may grant
            return replace(held, effective_acl=acl, connection_limit=_NO_LIMIT)
        case Mode.READ_ONLY:
            return replace(held, settings=_with_read_only(now.settings, _READ_ONLY))
        case Mode.NONE:
            return held


def unfenced(now: DatabaseProperties, fence: Fence, *, roles: Collection[str]) -> DatabaseProperties:
    """The properties without the fence: what it changed as before, what others changed meanwhile as they left it.

    `roles` are the server's: a privilege of a role that was dropped meanwhile is not put back.
    """
    before = _of_owner(fence.previous, now.owner)
    closed = fenced(before, fence)
    added = set(closed.effective_acl) - set(before.effective_acl)
    taken = [g for g in before.effective_acl if g not in closed.effective_acl] + list(fence.reopened)
    given_back = [g for g in taken if g.grantor in roles and (g.grantee is None or g.grantee in roles)]
    settings = now.settings
    if fence.mode is Mode.READ_ONLY and _READ_ONLY in settings:
        settings = _with_read_only(settings, next(filter(_is_read_only, before.settings), None))
    untouched_limit = fence.mode is not Mode.OFFLINE or now.connection_limit != _NO_LIMIT
    return replace(
        now,
        effective_acl=_merged([g for g in now.effective_acl if g not in added] + given_back),
        connection_limit=now.connection_limit if untouched_limit else before.connection_limit,
        allow_connections=before.allow_connections,  # closed for the time of a copy or swap
        settings=settings,
        comment=before.comment if is_fence(now.comment) else now.comment,
    )


def opened_since(now: DatabaseProperties, fence: Fence) -> tuple[Grant, ...]:
    """CONNECT that was granted through the standing fence to those who did not have it before."""
    if fence.mode is not Mode.OFFLINE:
        return ()
    open_now = set(now.effective_acl) - set(fenced(now, fence).effective_acl)
    return grants.in_order({g for g in open_now if g.privilege == CONNECT} - set(fence.previous.effective_acl))


def _merged(several: Iterable[Grant]) -> tuple[Grant, ...]:
    # PostgreSQL has one entry for a grantee, privilege and grantor; the one with the option includes the other
    by_key: dict[tuple[str | None, str, str], Grant] = {}
    for grant in sorted(several, key=lambda g: g.grantable):
        by_key[grant.grantee, grant.privilege, grant.grantor] = grant
    return grants.in_order(by_key.values())


def _of_owner(properties: DatabaseProperties, owner: str) -> DatabaseProperties:
    # ALTER DATABASE ... OWNER rewrites the ACL in the same way
    if properties.owner == owner:
        return properties

    def renamed(role: str) -> str:
        return owner if role == properties.owner else role

    return replace(
        properties,
        owner=owner,
        effective_acl=_merged(
            replace(g, grantee=None if g.grantee is None else renamed(g.grantee), grantor=renamed(g.grantor))
            for g in properties.effective_acl
        ),
    )


def _is_read_only(setting: Setting) -> bool:
    return setting.role is None and setting.name == _READ_ONLY.name


def _with_read_only(settings: Iterable[Setting], value: Setting | None) -> tuple[Setting, ...]:
    others = [setting for setting in settings if not _is_read_only(setting)]
    return database_settings.in_order(others if value is None else [*others, value])


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
