"""What an instance of RDS and a cluster of Aurora have in common: snapshots, what is made of them, and names.

RDS says the same things of both in other words: see `Words`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.aws.waits import Wait
from migrator.config.rds import RdsSettings
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

RUN, BACKUP = "migrator:run", "migrator:backup"
FAILED = frozenset(
    {
        "failed",
        "inaccessible-encryption-credentials",
        "incompatible-network",
        "incompatible-parameters",
        "incompatible-restore",
        "storage-full",
    }
)
_RENAMING = "renaming"


@dataclass(frozen=True, kw_only=True)
class Words:
    """What RDS calls the same thing of an instance and of a cluster."""

    what: str  # in messages, and in the names of errors: instance
    id: str  # DBInstanceIdentifier
    resource_id: str  # DbiResourceId
    status: str
    servers: str  # DBInstances, and describe_db_instances
    snapshot: str  # db_snapshot: create_, describe_ and delete_
    snapshots: str  # DBSnapshots
    snapshot_id: str
    snapshot_arn: str
    filter: str  # of a listing, by resource id

    def error(self, how: str) -> tuple[str, ...]:
        """The codes of an error about the server: DBInstanceNotFound, with and without Fault."""
        return _with_fault(f"{self.id.removesuffix('Identifier')}{how}")

    def snapshot_error(self, how: str) -> tuple[str, ...]:
        return _with_fault(f"{self.snapshot_id.removesuffix('Identifier')}{how}")

    @property
    def invalid_state(self) -> tuple[str, ...]:
        return _with_fault(f"Invalid{self.id.removesuffix('Identifier')}State")

    @property
    def operation(self) -> str:
        """db_instance: describe_ with an s, modify_."""
        return f"db_{self.what}"


def _with_fault(code: str) -> tuple[str, ...]:
    return code, f"{code}Fault"


def name_of(run_id: str, what: str = "") -> str:
    """What a run's snapshot or restored instance is called: RDS takes letters, digits and single hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", f"mig-{run_id}{f'-{what}' if what else ''}".lower())
    return name.strip("-")[:60].rstrip("-")


def tags_of(found: Mapping[str, Any] | None) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in (found or {}).get("TagList", [])}


@dataclass(frozen=True, kw_only=True)
class RdsServer:
    """One instance or cluster, by its identifier."""

    account: Account
    id: str
    settings: RdsSettings
    wait: Wait  # for its progress; the limits are the settings'

    words: ClassVar[Words]

    @effect(Effect.PROVIDER_CALL)
    def begin(self, run_id: str) -> str:
        """A snapshot of the server, tagged with the run, has been asked for. Safe to repeat. Returns its name.

        Raises: BackupFailed, also where there is one of that name that is not this run's.
        """
        name, words = name_of(run_id), self.words
        parameters = {words.id: self.id, words.snapshot_id: name, "Tags": [{"Key": RUN, "Value": run_id}]}
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, f"create_{words.snapshot}")(**parameters),
                doing=f"Asking for a snapshot of the {words.what} {self.id}",
            )
        except BackupFailed as error:
            if code_of(error) not in words.snapshot_error("AlreadyExists"):
                raise
            self._adopt(name, run_id)
        return name

    def finish(self, snapshot: str) -> str:
        """The snapshot is available. Returns its ARN. Raises: BackupFailed when it failed or took too long."""
        words = self.words

        def look() -> tuple[str | None, str]:
            found = self.snapshot(snapshot)
            # One that is gone: the waiter of AWS's own takes this for the end, and a good one.
            if found is None or found["Status"] in FAILED:
                raise BackupFailed(
                    f"The snapshot {snapshot} of the {words.what} {self.id} is "
                    f"{'gone' if found is None else found['Status']}.",
                    hint=f"Look at the {words.what}'s events in the console of AWS.",
                    code="rds_snapshot",
                )
            done = found["Status"] == "available"
            return found[
                words.snapshot_arn
            ] if done else None, f"{found['Status']}, {found.get('PercentProgress', 0)} %"

        arn: str = self.limited(self.settings.snapshot_timeout_s).until(
            look, doing=f"snapshot {snapshot}", setting="rds.snapshot_timeout_s", kind=BackupFailed
        )
        return arn

    @effect(Effect.PROVIDER_CALL)
    def delete(self, snapshot: str) -> None:
        """The snapshot is gone. Safe to repeat. Raises: BackupFailed."""
        words = self.words
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, f"delete_{words.snapshot}")(**{words.snapshot_id: snapshot}),
                doing=f"Deleting {snapshot}",
            )
        except BackupFailed as error:
            if code_of(error) not in words.snapshot_error("NotFound"):
                raise

    @effect(Effect.PROVIDER_CALL)
    def rename(self, resource_id: str, new_id: str) -> None:
        """The server of that resource id bears the name. Safe to repeat. Raises: BackupFailed.

        It is known by its resource id alone: a name may be nobody's for a while, and another's after it.
        """
        words = self.words
        found = self.by_resource(resource_id)
        if found is None:
            raise BackupFailed(f"There is no {words.what} with the resource id {resource_id}.", code="rds_not_found")
        if found[words.id] != new_id:
            self._ask_for_name(found[words.id], new_id, resource_id)

        def look() -> tuple[bool | None, str]:
            now = self.by_resource(resource_id)
            if now is None:
                return None, "not to be seen just now"
            named = now[words.id] == new_id and now.get(words.status) == "available"
            return named or None, f"{now[words.id]}, {now.get(words.status)}"

        self.limited(self.settings.restore_timeout_s).until(
            look, doing=f"renaming {found[words.id]} to {new_id}", setting="rds.restore_timeout_s", kind=BackupFailed
        )

    def find(self, name: str) -> dict[str, Any] | None:
        """The server of that name, as RDS describes it."""
        words = self.words
        return self._one(f"describe_{words.operation}s", words.servers, words.error("NotFound"), **{words.id: name})

    def by_resource(self, resource_id: str) -> dict[str, Any] | None:
        """The server with that resource id, whatever it is called just now."""
        words = self.words
        filters = [{"Name": words.filter, "Values": [resource_id]}] if words.filter else []

        def listed(rds: Any) -> list[dict[str, Any]]:
            pages = rds.get_paginator(f"describe_{words.operation}s").paginate(Filters=filters)
            return [one for page in pages for one in page[words.servers]]

        found = self._rds.idempotent(listed, doing=f"Looking at the {words.what}s of RDS")
        return next((one for one in found if one.get(words.resource_id) == resource_id), None)

    def snapshot(self, name: str) -> dict[str, Any] | None:
        words = self.words
        gone = words.snapshot_error("NotFound")
        return self._one(f"describe_{words.snapshot}s", words.snapshots, gone, **{words.snapshot_id: name})

    def limited(self, limit_s: float) -> Wait:
        """A wait of this server's, with that end."""
        return Wait(
            limit_s=limit_s,
            every_s=self.settings.poll_s,
            progress=self.wait.progress,
            sleep=self.wait.sleep,
            clock=self.wait.clock,
        )

    def make(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        new_id: str,
        find: Callable[[str], dict[str, Any] | None],
    ) -> None:
        """What is restored of the backup, and is called so, is being made. Safe to repeat.

        Raises: BackupFailed, also where another's bears the name.
        """
        if self._is_made(find(new_id), parameters, new_id):
            return
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, operation)(**parameters), doing=f"Restoring beside: making {new_id}"
            )
        except BackupFailed as error:
            # By the first attempt, whose answer was lost.
            there = code_of(error).removesuffix("Fault") in ("DBInstanceAlreadyExists", "DBClusterAlreadyExists")
            if not there or not self._is_made(find(new_id), parameters, new_id):
                raise

    def _is_made(self, found: Mapping[str, Any] | None, parameters: Mapping[str, Any], new_id: str) -> bool:
        if found is None:
            return False
        if tags_of(found).get(BACKUP) != tags_of({"TagList": parameters["Tags"]}).get(BACKUP):
            raise BackupFailed(
                f"There is {new_id} already, and it is not restored from this backup.",
                hint="Look at it in the console of AWS; when nobody needs it, delete it.",
                code="rds_name_taken",
            )
        return True

    def _ask_for_name(self, old_id: str, new_id: str, resource_id: str) -> None:
        """The rename is under way, or done. Raises: BackupFailed where another server has the name."""
        words = self.words
        self._refuse_taken(new_id, resource_id)
        parameters = {words.id: old_id, f"New{words.id}": new_id, "ApplyImmediately": True}
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, f"modify_{words.operation}")(**parameters),
                doing=f"Renaming the {words.what} {old_id} to {new_id}",
            )
        except BackupFailed as error:
            # An attempt whose answer was lost may have done it, or begun it; or somebody else took the name meanwhile.
            self._refuse_taken(new_id, resource_id)
            known = (*words.error("NotFound"), *words.error("AlreadyExists"), *words.invalid_state)
            if code_of(error) not in known or not self._is_renaming(resource_id, new_id):
                raise

    def _refuse_taken(self, new_id: str, resource_id: str) -> None:
        other = self.find(new_id)
        if other is not None and other.get(self.words.resource_id) != resource_id:
            raise BackupFailed(
                f"The name {new_id} is another {self.words.what}'s ({other.get(self.words.resource_id)}).",
                hint="Find out who made it; rename or delete it, and repeat the command.",
                code="rds_name_taken",
            )

    def _is_renaming(self, resource_id: str, new_id: str) -> bool:
        now = self.by_resource(resource_id)
        if now is None:  # for a while it is to be seen under neither name
            return True
        pending = now.get("PendingModifiedValues", {}).get(self.words.id)
        return now.get(self.words.status) == _RENAMING or new_id in (now[self.words.id], pending)

    def _adopt(self, name: str, run_id: str) -> None:
        words, found = self.words, self.snapshot(name)
        if tags_of(found).get(RUN) != run_id or (found or {}).get(words.id) != self.id:
            command = words.snapshot.replace("_", "-")
            raise BackupFailed(
                f"There is a snapshot {name} already, and it is not this run's.",
                hint=f"look at it: aws rds describe-{command}s --{command}-identifier {name}",
                code="rds_snapshot",
            )

    def _one(self, operation: str, key: str, gone: tuple[str, ...], **parameters: Any) -> dict[str, Any] | None:
        try:
            found: list[dict[str, Any]] = self._rds.idempotent(
                lambda rds: getattr(rds, operation)(**parameters)[key], doing=f"Looking at {key} of RDS"
            )
        except BackupFailed as error:
            if code_of(error) in gone:
                return None
            raise
        return found[0] if found else None

    @cached_property
    def _rds(self) -> Service:
        return self.account.service("rds", BackupFailed)
