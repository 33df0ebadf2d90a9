"""Talking to Azure Resource Manager: the client, and its refusals in our words.

The library itself repeats what was throttled (after the service's Retry-After) and what failed on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.mgmt.compute import ComputeManagementClient

from builder.errors import HallmarkError
from builder.run import redact

__all__ = ["connect", "explained", "word"]


def connect(
    subscription: str, *, credential: TokenCredential | None = None, **options: Any
) -> ComputeManagementClient:
    """A client of the compute service, with the identity that the environment offers.

    :param options: further ones of the library's: another endpoint, other pauses.
    """
    if credential is None:
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential()
    # The library gives up after three refusals in a row; a busy service throttles longer than that.
    return ComputeManagementClient(credential, subscription, retry_total=10, retry_status=8, **options)


def word(value: object) -> str:
    """The service's word, whether the library knows it (then it is an enumeration's member) or not."""
    return str(getattr(value, "value", value))


@contextmanager
def explained(doing: str, where: str) -> Iterator[None]:
    """Turn the library's errors inside the block into ours; nothing secret is repeated.

    :raises HallmarkError: instead of every ``AzureError``.
    """
    try:
        yield
    except ClientAuthenticationError as error:
        raise _error(
            doing,
            where,
            error,
            "the service doesn't accept the credentials",
            "log in (`az login`); the identity needs the role Compute Gallery Artifacts Publisher",
        ) from None
    except (ServiceRequestError, ServiceResponseError) as error:
        raise _error(
            doing,
            where,
            error,
            "Azure Resource Manager is not reachable",
            "check the network, then run the same command again: it goes on where it was",
        ) from None
    except HttpResponseError as error:
        code = error.error.code if error.error is not None else error.reason
        hint = {
            403: "the identity needs the role Compute Gallery Artifacts Publisher, and access to the account",
            404: "check the names; a gallery is made with: az sig create",
            409: "somebody else works on it: run the same command again",
        }.get(error.status_code or 0)
        raise _error(
            doing, where, error, f"the service answered {error.status_code} ({code})", hint
        ) from None
    except AzureError as error:
        raise _error(doing, where, error, type(error).__name__, None) from None


def _error(doing: str, where: str, error: AzureError, what: str, hint: str | None) -> HallmarkError:
    said = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    return HallmarkError(
        f"cannot {doing}: {what}", where=where, details=[redact(line) for line in said[:4]], hint=hint
    )
