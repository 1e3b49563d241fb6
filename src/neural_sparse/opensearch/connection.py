"""Reaching a cluster, and saying in plain words why it cannot be reached."""

from __future__ import annotations

import getpass
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from neural_sparse.errors import InputError

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)


def connect(
    url: str,
    *,
    user: str | None = None,
    ca_certs: str | None = None,
    verify_certs: bool = True,
    timeout: float = 60.0,
) -> OpenSearch:
    """A client of the cluster at `url`, which is asked once who it is.

    Args:
        user: or OPENSEARCH_USER. The password is OPENSEARCH_PASSWORD, or asked for; it is never shown or logged.
        ca_certs: file with the certificate authority of a cluster that has one of its own.
        timeout: seconds that a request may take.

    Raises:
        InputError: opensearch-py is not installed; an address that is none or holds a password; no password;
            a server that is not there, refuses or does not answer.
    """
    _require_client()
    from opensearchpy import OpenSearch

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{_without_secret(url)!r} is no address; give one such as https://search.example.org:9200"
        )
    if parts.username or parts.password:
        raise InputError(
            "the address holds a user or password, which would end up in logs: set OPENSEARCH_USER and "
            "OPENSEARCH_PASSWORD instead"
        )
    user = user or os.environ.get("OPENSEARCH_USER")
    auth = (user, _password(user)) if user else None
    if auth and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        logger.warning("%s: the password travels unencrypted over http", url)
    client = OpenSearch(
        hosts=[url],
        http_auth=auth,
        ca_certs=ca_certs,
        verify_certs=verify_certs,
        ssl_show_warn=False,
        timeout=timeout,
        max_retries=0,  # `bulk` retries what is worth it, and waits longer each time
    )
    with told(url, timeout):
        client.info()
    return client


def _password(user: str) -> str:
    password = os.environ.get("OPENSEARCH_PASSWORD")
    if password is None and sys.stdin.isatty():
        password = getpass.getpass(f"password of {user}: ")
    if not password:
        raise InputError(f"no password for {user}: set OPENSEARCH_PASSWORD")
    return password


def _without_secret(url: str) -> str:
    return url.rsplit("@", 1)[-1]


def _require_client() -> None:
    if importlib.util.find_spec("opensearchpy") is None:
        raise InputError("the client needs opensearch-py: pip install 'neural-sparse[opensearch]'")


@contextmanager
def told(where: str, timeout: float | None = None) -> Iterator[None]:
    """Turn what opensearch-py raises into an InputError that names the fix.

    Args:
        where: address or index, for the message.
    """
    from opensearchpy import exceptions

    try:
        yield
    except exceptions.ConnectionTimeout as error:
        seconds = f" within {timeout:g} s" if timeout else ""
        raise InputError(
            f"{where} did not answer{seconds}: the cluster is busy or unreachable; try again later, or allow more "
            "time with timeout"
        ) from error
    except exceptions.SSLError as error:
        raise InputError(
            f"{where}: the server's certificate is not trusted; give the file of its authority as ca_certs"
        ) from error
    except exceptions.ConnectionError as error:
        raise InputError(
            f"{where} cannot be reached ({_reason(error)}): is the address right, and is OpenSearch running there?"
        ) from error
    except exceptions.AuthenticationException as error:
        raise InputError(
            f"{where} refused the login (401): check OPENSEARCH_USER and OPENSEARCH_PASSWORD"
        ) from error
    except exceptions.AuthorizationException as error:
        raise InputError(f"{where}: the user may not do this (403): {_reason(error)}") from error
    except exceptions.NotFoundError as error:
        raise InputError(f"{where}: not found (404): {_reason(error)}") from error
    except exceptions.TransportError as error:
        raise InputError(f"{where} answered {error.status_code}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The server's own words, or the cause's."""
    info = getattr(error, "info", None)
    if isinstance(info, dict):
        told_reason = info.get("error")
        if isinstance(told_reason, dict):
            told_reason = told_reason.get("reason") or told_reason.get("type")
        if told_reason:
            return str(told_reason)
    return str(getattr(error, "error", error))[:300]
