"""`migrator approve`: another person's word for a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, AssumeYes, ConfigPath

if TYPE_CHECKING:
    from migrator.backups.signing import SigningKey
    from migrator.config.configuration import Config


def approve(
    plan: Annotated[Path, typer.Argument(metavar="FILE", help="The plan, as migrator plan --out wrote it.")],
    *,
    config: ConfigPath = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PATH", help="Your private key. Default: that of [signing] key.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who approves. Default: this login.")] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What else is to be known.")] = "",
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Sign a plan with your own key, after reading it. The approval is written into the file.

    Its key has to be among [signing] public_keys, and another one than that of who made the plan. Whatever the plan
    covers may not change afterwards: migrator run --plan FILE refuses then, naming what did.

    \b
    migrator approve plan.json
    migrator approve plan.json --key ~/.ssh/approver_ed25519 --by "Ann" --comment "seen in rehearsal 14"
    """
    import getpass
    from datetime import UTC, datetime

    from migrator.backups.signing import PublicKeys
    from migrator.cli.confirm import confirm
    from migrator.plans import approvals, plan_file
    from migrator.reports import files

    loaded = opening.configuration(config, required=False)
    found = plan_file.read(plan)
    approvals.require_whole(found)
    signing_key = _signing_key(loaded, key)
    keys = PublicKeys.load(loaded.signing.public_keys)
    if not as_json:
        output.note(
            f"{len(found.changesets)} changesets of {found.changelog} to {found.database} ({found.environment}), "
            f"{found.way}; plan {found.digest[:12]} of {found.made_at:%Y-%m-%d %H:%M} UTC"
        )
    approved = approvals.approve(
        found, signing_key, keys, by=by or getpass.getuser(), comment=comment, at=datetime.now(UTC)
    )
    confirm(f"Approve it with the key {signing_key.id}?", assume_yes=yes)
    files.write(plan, plan_file.render(approved))
    number = len(approvals.count(approved, keys, own=None).counts)
    if as_json:
        output.json_result({"plan": approved.digest, "key": signing_key.id, "approvals": number})
        return
    output.result(f"approved: {number} so far; carry it out with: migrator run --plan {plan}")


def _signing_key(config: Config, path: Path | None) -> SigningKey:
    """The key in the file, else the configured one. Raises: UsageError, ConfigError."""
    from migrator.backups.signing import SigningKey
    from migrator.config.login import Secret
    from migrator.errors import UsageError

    if path is not None:
        try:
            return SigningKey.parse(Secret(path.expanduser().read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The key {path} cannot be read.", hint="Name the file of your private key.") from error
    configured = config.signing.key
    if configured is None:
        raise UsageError(
            "There is no key to approve with.",
            hint="Give --key PATH, or set [signing] key; a new one: openssl genpkey -algorithm ed25519 -out my.pem",
        )
    return SigningKey.parse(configured)
