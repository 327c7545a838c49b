"""pg_dump and pg_restore at work: logged in without a secret in sight, with an end, and what they say in a log."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrator import processes
from migrator.backups import Source, failures
from migrator.config.login import Login, Secret
from migrator.errors import BackupFailed, ToolFailed
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import client_tools
from migrator.postgres.client_tools import ClientTools
from migrator.postgres.connect import application_name
from migrator.processes.stream import input_to, output_of


@dataclass(frozen=True, kw_only=True)
class Programs:
    tools: ClientTools
    log: Path  # what they say is appended
    timeout_s: float  # for each

    def run(
        self,
        program: Path,
        options: Sequence[str],
        source: Source,
        login: Login,
        *,
        durable: bool = True,
        pieces: Iterable[bytes] | None = None,
    ) -> processes.Completed:
        """The program has ended, well or not. With `pieces` they are its standard input.

        Not `durable`: one flush at the end, by ANALYZE, in place of one an object. Raises: BackupFailed.
        """
        with self._prepared(program, source, login) as (environment, secrets):
            if not durable:
                environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} -c synchronous_commit=off".strip()
            argv = [str(program), "--no-password", *options]
            if pieces is None:
                done = processes.run(argv, timeout_s=self.timeout_s, env=environment, secrets=secrets, check=False)
            else:
                done = input_to(argv, pieces, timeout_s=self.timeout_s, env=environment, secrets=secrets)
        self._write_log(program, done)
        return done

    def output(
        self,
        program: Path,
        options: Sequence[str],
        source: Source,
        *,
        size_of_piece: Callable[[int], int],
        ended: Callable[[processes.Completed], None],
    ) -> Generator[bytes]:
        """What the program writes, in pieces. `ended` sees how it ended before they do. Raises: BackupFailed.

        Close it: until then the program and its password file are there.
        """

        def log(done: processes.Completed) -> None:
            self._write_log(program, done)
            ended(done)

        with self._prepared(program, source, source.login) as (environment, secrets):
            yield from output_of(
                [str(program), "--no-password", *options],
                size_bytes=size_of_piece,
                ended=log,
                timeout_s=self.timeout_s,
                env=environment,
                secrets=secrets,
            )

    def check(self, done: processes.Completed, doing_what: str) -> None:
        """Raises: BackupFailed where the program did not do what it should."""
        if done.exit_code != 0 or failures.refused_warning(done) is not None:
            raise failures.failed(done, doing_what, hint=f"What the program said is in {self.log}.")

    @contextmanager
    def _prepared(
        self, program: Path, source: Source, login: Login
    ) -> Iterator[tuple[dict[str, str], Sequence[Secret]]]:
        login = login.settled()  # what is written into the file is what is masked
        secret = login.secret()
        with doing(Effect.WORK_FILE):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with client_tools.passfile(login, self.log.parent) as passfile:
            environment = client_tools.environment(
                login,
                passfile=passfile,
                application_name=application_name(source.run_id, program.name),
                tools=self.tools,
            )
            try:
                yield environment, [secret] if secret is not None else []
            except ToolFailed as error:
                raise BackupFailed(
                    f"{program.name} for {login.database} failed: {failures.without_statements(error.message)}",
                    hint="Raise limits.backup_timeout_s." if error.code == "timeout" else error.hint,
                    code=error.code,
                ) from error

    @effect(Effect.LOG)
    def _write_log(self, program: Path, done: processes.Completed) -> None:
        text = f"{program.name} ended with {done.exit_code} after {done.duration_s:.1f} s\n"
        text += failures.without_statements(done.stderr)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "a", encoding="utf-8") as out:
            out.write(text.rstrip() + "\n")
