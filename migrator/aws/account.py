"""Who we are at AWS, and clients that know it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from migrator.aws.credentials import Term, term_of
from migrator.aws.refusals import REGION, translated
from migrator.aws.service import Pauses, Service
from migrator.config.aws import AwsSettings
from migrator.errors import AwsFailed, StepFailed

if TYPE_CHECKING:
    from boto3.session import Session

_ROLE_SESSION = "migrator"
_MOST_CONNECTIONS = 32


@cache
def account_of(settings: AwsSettings) -> Account:
    """The one account of these settings in this process: to look for credentials takes its time."""
    return Account(settings)


@dataclass(frozen=True, kw_only=True)
class Identity:
    account: str  # twelve digits
    arn: str


@dataclass
class Account:
    """The credentials of one configuration. Safe to use from several threads.

    A role that is assumed is assumed again by itself. Credentials that came from elsewhere and have expired are looked
    for anew, once a call: a file or a variable may have better ones by then.
    """

    settings: AwsSettings
    sleep: Callable[[float], None] = time.sleep  # between attempts
    _session: Session | None = field(default=None, init=False, repr=False)
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _own_credentials: Any = field(default=None, init=False, repr=False)  # with which a role is assumed
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def service(self, name: str, kind: type[StepFailed] = AwsFailed) -> Service:
        """The service by boto3's name. What it refuses is raised as `kind`."""
        settings = self.settings
        pauses = Pauses(attempts=settings.attempts, longest_s=settings.longest_pause_s, sleep=self.sleep)
        return Service(name=name, kind=kind, clients=self, pauses=pauses)

    def client(self, name: str) -> Any:
        """A client that tries nothing again by itself: see `Service`. Raises: AwsFailed without a region."""
        with self._lock:
            if name not in self._clients:
                from botocore.config import Config

                settings = self.settings
                config = Config(
                    connect_timeout=settings.connect_timeout_s,
                    read_timeout=settings.read_timeout_s,
                    max_pool_connections=_MOST_CONNECTIONS,
                    retries={"mode": "standard", "total_max_attempts": 1},
                    request_checksum_calculation="when_required",
                    s3={"addressing_style": "path"} if self._endpoint(name) else None,
                    user_agent_extra="migrator",
                )
                with translated(f"Reaching {name} at AWS", service=name):
                    self._clients[name] = cast("Any", self.session).client(
                        name, config=config, endpoint_url=self._endpoint(name)
                    )
            return self._clients[name]

    @property
    def session(self) -> Session:
        """boto3's session, as whoever the settings say. Raises: AwsFailed for a profile that is not there."""
        with self._lock:
            if self._session is None:
                import boto3

                with translated("Looking for credentials of AWS", service="sts"):
                    own = boto3.session.Session(profile_name=self.settings.profile, region_name=self.settings.region)
                    self._session = own if self.settings.role_arn is None else self._assuming(own)
            return self._session

    @property
    def region(self) -> str:
        """The region that is worked in. Raises: AwsFailed where none is known."""
        region = self.session.region_name
        if region is None:
            raise AwsFailed(
                "Nothing says in which region of AWS to work.",
                hint=REGION,
                code="no_region",
            )
        return region

    def identity(self) -> Identity:
        """Whose credentials these are. Raises: AwsFailed."""
        sts = self.service("sts")
        answer = sts.idempotent(lambda sts: sts.get_caller_identity(), doing="Asking AWS who we are")
        return Identity(account=answer["Account"], arn=answer["Arn"])

    def term(self) -> Term:
        """How long the credentials hold out; of a role that is assumed, those that it is assumed with.

        Raises: AwsFailed where there are none.
        """
        from botocore.exceptions import NoCredentialsError

        with translated("Looking for credentials of AWS", service="sts"):
            session = self.session  # which makes the role's own, where there is one
            found = session.get_credentials() if self.settings.role_arn is None else self._own_credentials
            if found is None:
                raise NoCredentialsError
            return term_of(found)

    def renew(self) -> None:
        """The next call looks for credentials anew. Safe to repeat."""
        with self._lock:
            self._session = None
            self._clients.clear()

    def _endpoint(self, name: str) -> str | None:
        return (self.settings.s3_endpoint_url if name == "s3" else None) or self.settings.endpoint_url

    def _assuming(self, own: Session) -> Session:
        """A session as the role, which botocore assumes anew before it expires."""
        import boto3
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
        from botocore.exceptions import NoCredentialsError
        from botocore.session import get_session

        def client_of(service: str, **options: Any) -> Any:
            return cast("Any", own).client(service, endpoint_url=self._endpoint(service), **options)

        credentials = own.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        self._own_credentials = credentials
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=client_of,
            source_credentials=credentials,
            role_arn=self.settings.role_arn or "",
            extra_args={"RoleSessionName": _ROLE_SESSION},
        )
        inner = get_session()
        cast("Any", inner)._credentials = DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )
        return boto3.session.Session(botocore_session=inner, region_name=own.region_name)
