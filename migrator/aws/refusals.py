"""What AWS refuses, in our words: what failed, on what, which permission is missing, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from migrator.errors import AwsFailed, StepFailed

# By name. Nothing was carried out, or what was asked for can be asked again.
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
TRANSIENT = frozenset(
    {
        "503",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "BadDigest",  # the bytes were spoilt on the way
        "XAmzContentSHA256Mismatch",
        "IncompleteBody",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_HEADS = ("HeadObject", "HeadBucket")
_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedFault",
        "AuthorizationError",
        "AuthorizationErrorException",
        "UnauthorizedOperation",
    }
)
_UNKNOWN_TO_AWS = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "AuthFailure",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)
# Where the action in a policy is not the service's name and the operation's.
_PREFIXES = {"elbv2": "elasticloadbalancing"}
_ACTIONS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
}
_NETWORK = (
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "EndpointConnectionError",
    "ConnectionClosedError",
    "ConnectionError",
    "ProxyConnectionError",
    "SSLError",
    "HTTPClientError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "FlexibleChecksumError",
    "CredentialRetrievalError",
    "MetadataRetrievalError",
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "InvalidConfigError")
_NOT_RENEWED = ("TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError")
_RENEW = "get new ones and go on; a role ([aws] role_arn, or the machine's own) is renewed by itself"
REGION = 'write region = "eu-central-1" under [aws], or set AWS_REGION'
_LOG_IN = "see `aws sts get-caller-identity`; a profile, a role or variables give credentials: [aws] profile, role_arn"


def code_of(error: BaseException) -> str:
    """AWS's own word for what is wrong, also of an error of ours: NoSuchKey. Empty where it is no answer of AWS."""
    if isinstance(error, StepFailed) and error.__cause__ is not None:
        return code_of(error.__cause__)
    return str(_answer(error).get("Error", {}).get("Code", ""))


def status_of(error: BaseException) -> int:
    """The status of the HTTP answer; 0 where there was none."""
    return int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_transient(error: BaseException) -> bool:
    """Whether the same call may do better in a moment."""
    if not _is_botocore(error):
        return False
    if code_of(error):
        return code_of(error) in THROTTLED | TRANSIENT or status_of(error) in (429, 500, 502, 503, 504)
    return any(parent.__name__ in _NETWORK for parent in type(error).__mro__)


def is_expired(error: BaseException) -> bool:
    """Whether the credentials were good once.

    S3 answers HEAD without a body, so without a word of its own: a bare 400 is what an expired token comes to there
    (a wrong region, which it may be too, botocore has followed by then).
    """
    if code_of(error) == "400":
        return str(getattr(error, "operation_name", "")) in _HEADS
    return code_of(error) in _EXPIRED or _is_unrefreshed(error)


@contextmanager
def translated(doing: str, *, service: str, kind: type[StepFailed] = AwsFailed) -> Iterator[None]:
    """Errors of botocore leave the block as `kind`; `doing` begins the message."""
    try:
        yield
    except Exception as error:
        if not (_is_botocore(error) or _is_unrefreshed(error)):
            raise
        raise _refusal(error, doing, service, kind) from error


def action(service: str, operation: str) -> str:
    """What a policy calls the operation: s3:GetObject."""
    name = f"{_PREFIXES.get(service, service)}:{operation}"
    return _ACTIONS.get(name, name)


def _refusal(error: Exception, doing: str, service: str, kind: type[StepFailed]) -> StepFailed:
    code, said, name = code_of(error), _said(error), type(error).__name__
    found: tuple[str, str, str | None] = ("aws", said + (f" ({code})" if code else ""), None)
    if is_expired(error) or name in _NOT_RENEWED:
        found = ("aws_expired", f"the credentials of AWS have expired ({code or said})", _RENEW)
    elif code in _DENIED:
        missing = _missing(error, service)
        remedy = f"allow {missing} in the policy of the role; `aws sts get-caller-identity` says which one it is"
        found = ("aws_denied", f"AWS denies {missing} to these credentials ({said})", remedy)
    elif code in _UNKNOWN_TO_AWS:
        found = ("aws_login", f"AWS does not take these credentials ({code})", _LOG_IN)
    elif name in _NO_CREDENTIALS:
        found = ("aws_login", said, _LOG_IN)
    elif name == "NoRegionError":
        found = ("no_region", "nothing says in which region of AWS to work", REGION)
    elif is_transient(error):
        what = f"AWS answered {code} to the last attempt" if code else said
        found = ("aws_busy", what, "try again later; [aws] attempts says how often a call is made")
    short, what, hint = found
    return kind(f"{doing} failed: {what}", hint=hint, code=short)


def _missing(error: Exception, service: str) -> str:
    told = re.search(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)", str(error))
    operation = str(getattr(error, "operation_name", ""))
    return told[1] if told else action(service, operation)


def _said(error: Exception) -> str:
    text = str(_answer(error).get("Error", {}).get("Message", "")) or str(error)
    return " ".join(text.split()).rstrip(".")[:500]


def _answer(error: BaseException) -> Mapping[str, Any]:
    answer = getattr(error, "response", None)
    return answer if isinstance(answer, Mapping) else {}


def _is_unrefreshed(error: BaseException) -> bool:
    """Whether botocore looked for new credentials and found the old ones: it has no error of its own for that."""
    return isinstance(error, RuntimeError) and "refreshed credentials are still expired" in str(error)


def _is_botocore(error: BaseException) -> bool:
    # By name: whoever catches an error of its own must not pay for the import of botocore.
    return any(parent.__module__.startswith(("botocore.", "boto3.", "s3transfer.")) for parent in type(error).__mro__)
