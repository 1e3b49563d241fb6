"""Reaching a cluster, and saying in plain words why it cannot be reached."""

from __future__ import annotations

import getpass
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from neural_sparse.errors import InputError
from neural_sparse.opensearch.refusals import cured, lacking, of_endpoint, reason

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)


Auth = Literal["basic", "sigv4", "cert", "none"]


def connect(
    url: str | Sequence[str],
    *,
    auth: Auth | None = None,
    user: str | None = None,
    ca_certs: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
    region: str | None = None,
    verify_certs: bool = True,
    timeout: float = 60.0,
) -> OpenSearch:
    """A client of the cluster at `url`, which is asked once who it is.

    Args:
        url: of the cluster, or several of its nodes, as a list or parted by commas: these take turns, and what one of
            them does not take (no connection, 502, 503, 504) goes to the next at once.
        auth: "basic", a user and a password; "sigv4", requests signed with the credentials that boto3 finds (extra
            boto3), for Amazon's service; "cert", a certificate of the client's own; "none". None: "cert" where one is
            given, "basic" where a user is known, else "none".
        user: or OPENSEARCH_USER. The password is OPENSEARCH_PASSWORD, or asked for; it is never shown or logged.
        ca_certs: file with the certificate authority of a cluster that has one of its own.
        client_cert, client_key: PEM files.
        region: of sigv4; AWS_REGION or the profile's if None.
        timeout: seconds that a request may take.

    Raises:
        InputError: opensearch-py (or boto3, for sigv4) is not installed; an address that is none or holds a password;
            no password, credentials or file; a server that is not there, refuses or does not answer.
    """
    _require_client()
    from opensearchpy import OpenSearch

    urls = [one.strip() for one in url.split(",")] if isinstance(url, str) else list(url)
    where = ", ".join(urls)
    hosts = [_host(one) for one in urls]
    user = user or os.environ.get("OPENSEARCH_USER")
    auth = auth or ("cert" if client_cert else "basic" if user else "none")
    if auth not in get_args(Auth):
        raise InputError(f"auth is one of {', '.join(get_args(Auth))}, not {auth!r}")
    for what, file in (("ca_certs", ca_certs), ("client_cert", client_cert), ("client_key", client_key)):
        if file is not None and not os.access(file, os.R_OK):
            raise InputError(f"{what}: {file} cannot be read")
    if auth == "cert" and client_cert is None:
        raise InputError("auth cert needs a certificate: give client_cert (and client_key), PEM files")
    serverless = any(str(host.hostname).endswith(".aoss.amazonaws.com") for host in hosts)
    login: Any = None
    if auth == "basic":
        if not user:
            raise InputError("auth basic needs a user: give one, or set OPENSEARCH_USER")
        login = (user, _password(user))
        for host in hosts:
            if host.scheme == "http" and host.hostname not in ("localhost", "127.0.0.1", "::1"):
                logger.warning("%s: the password travels unencrypted over http", host.geturl())
    elif auth == "sigv4":
        login = _signer(region, "aoss" if serverless else "es")
    client = OpenSearch(
        hosts=urls,
        http_auth=login,
        ca_certs=ca_certs,
        client_cert=client_cert if auth == "cert" else None,
        client_key=client_key if auth == "cert" else None,
        verify_certs=verify_certs,
        ssl_show_warn=False,
        timeout=timeout,
        max_retries=len(urls) - 1,  # each once; `bulk` retries what is worth it, and waits longer each time
    )
    if not serverless:  # which does not say who it is
        with readable_errors(where, timeout):
            version_of(client)
    return client


def _host(url: str) -> SplitResult:
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
    return parts


def version_of(client: OpenSearch) -> tuple[str, str] | None:
    """(distribution, version) as ("opensearch", "3.6.0"); None for users whom the security plugin does not tell."""
    from opensearchpy import exceptions

    try:
        about = client.info()["version"]
    except exceptions.AuthorizationException as error:
        if lacking(_reason(error)) is None:
            raise
        return None
    return str(about.get("distribution", "elasticsearch")), str(about["number"])


def _signer(region: str | None, service: str) -> Any:
    if importlib.util.find_spec("boto3") is None:
        raise InputError("auth sigv4 takes its credentials from boto3: pip install boto3")
    import boto3
    from opensearchpy import Urllib3AWSV4SignerAuth

    session = boto3.Session(region_name=region)
    credentials = session.get_credentials()
    if credentials is None:
        raise InputError(
            "auth sigv4: boto3 finds no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or "
            "log in"
        )
    region = region or session.region_name or os.environ.get("AWS_REGION")
    if not region:
        raise InputError("auth sigv4 needs a region: give one, or set AWS_REGION")
    return Urllib3AWSV4SignerAuth(credentials, region, service)


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
def readable_errors(where: str, timeout: float | None = None) -> Iterator[None]:
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
            f"{where}: {_certificate_problem(error)}; give the file of the authority that signed it as ca_certs (--ca)"
        ) from error
    except exceptions.ConnectionError as error:
        raise InputError(
            f"{where} cannot be reached ({_reason(error)}): is the address right, and is OpenSearch running there?"
        ) from error
    except exceptions.AuthenticationException as error:
        if (told := of_endpoint(_reason(error), 401)) is not None:
            raise InputError(f"{where}: {told}") from error
        raise InputError(
            f"{where} refused the login (401): check OPENSEARCH_USER and OPENSEARCH_PASSWORD"
        ) from error
    except exceptions.NotFoundError as error:
        raise InputError(f"{where}: not found (404): {_reason(error)}") from error
    except exceptions.TransportError as error:
        words = _reason(error)
        if (told := of_endpoint(words, error.status_code)) is not None:
            raise InputError(f"{where}: {told}") from error
        if error.status_code == 403 and lacking(words) is None and "block" not in words:
            words = f"the user may not do this (403): {words}"
        elif lacking(words) is None:
            words = f"answered {error.status_code}: {words}"
        raise InputError(f"{where}: {cured(words)}") from error
    except exceptions.SerializationError as error:
        raise InputError(f"{where} does not answer as OpenSearch does: is the address right?") from error


def _certificate_problem(error: Exception) -> str:
    words = str(error)
    if any(sign in words for sign in ("self-signed", "self signed", "local issuer")):
        return "the server's certificate is signed by an authority that is not known here"
    if "mismatch" in words or "doesn't match" in words:
        return "the server's certificate is for another name than that of the address"
    if "expired" in words:
        return "the server's certificate has expired"
    if "WRONG_VERSION_NUMBER" in words or "record layer" in words:
        return "the server does not speak https there (write http:// if that is meant)"
    return "the server's certificate is not trusted"


def _reason(error: Exception) -> str:
    """The server's own words, or the cause's."""
    info = getattr(error, "info", None)
    if isinstance(info, dict) and info.get("error"):
        return reason(info["error"])
    if isinstance(info, dict) and info.get("failures"):  # of _reindex
        return reason(info["failures"][0].get("cause"))
    return str(getattr(error, "error", error))[:300]
