"""Who asks a cluster: options that `deploy`, `evaluate`, `load-test` and `ab-test serve` share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


_PANEL = "Login to the cluster"


@dataclass(frozen=True)
class Login:
    """The options, as `opensearch.connect` takes them; passwords are in the environment, or asked for."""

    auth: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="basic: user and password. sigv4: boto3's credentials (Amazon). cert: --cert and --key. none.",
            show_default="cert with --cert, basic with a user, else none",
        ),
    ] = None
    user: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            envvar="OPENSEARCH_USER",
            help="Its password is OPENSEARCH_PASSWORD, or asked for.",
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_PANEL,
            envvar="OPENSEARCH_CA",
            help="File with the authority of the cluster's certificate.",
        ),
    ] = None
    cert: Annotated[
        Path | None, typer.Option(rich_help_panel=_PANEL, help="The client's own certificate (PEM).")
    ] = None
    key: Annotated[Path | None, typer.Option(rich_help_panel=_PANEL, help="Its key (PEM).")] = None
    region: Annotated[
        str | None, typer.Option(rich_help_panel=_PANEL, help="sigv4: the region.", show_default="boto3's")
    ] = None

    def client(self, url: str) -> OpenSearch:
        """Of the cluster at `url`. Raises InputError: see `opensearch.connect`."""
        from neural_sparse.opensearch.connection import connect

        ca, cert, key = (str(file) if file is not None else None for file in (self.ca, self.cert, self.key))
        return connect(
            url,
            auth=self.auth,  # type: ignore[arg-type]
            user=self.user,
            ca_certs=ca,
            client_cert=cert,
            client_key=key,
            region=self.region,
        )


def takes_login(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Login`, at the end, in place of its parameter `login`."""
    names = [one.name for one in fields(Login)]

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        login = Login(**{name: arguments.pop(name) for name in names})
        command(**arguments, login=login)

    own = inspect.signature(command, eval_str=True).parameters
    kinds = get_type_hints(Login, include_extras=True)
    options = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=kinds[one.name]
        )
        for one in fields(Login)
    ]
    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own.values() if one.name != "login"
    ]
    called.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in (*parameters, *options)}
    return called
