"""`neural-sparse endpoint`."""

from __future__ import annotations

from pathlib import Path

import typer


def endpoint(
    export: Path = typer.Argument(help="Folder written by `neural-sparse export`."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; other machines reach it by 0.0.0.0."),
    port: int = typer.Option(8080, min=0, max=65535, help="Port to listen on; 0 for a free one."),
    device: str | None = typer.Option(None, help="cpu or cuda.", show_default="a GPU where there is one"),
) -> None:
    """Encode documents over HTTP, for a remote model of OpenSearch: see --remote of `neural-sparse deploy`.

    POST /invocations with {"inputs": ["text", ...]} gets [{"token": weight, ...}, ...]; GET /ping. With
    NEURAL_SPARSE_ENDPOINT_KEY set, requests have to bring it ("Authorization: Bearer KEY"). TLS is for a proxy.

    Examples:

      neural-sparse endpoint export --port 8080

      NEURAL_SPARSE_ENDPOINT_KEY=... neural-sparse endpoint export --host 0.0.0.0
    """
    import os

    from neural_sparse.cli.listening import answer_until_ended
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.deploy.exported import Exported
    from neural_sparse.opensearch.remote.inference import KEY, DocumentEncoder, make_server

    exported = Exported.open(export)
    key = os.environ.get(KEY) or None
    if key is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"{host}: other machines could ask without a key; set {KEY}")
    encoder = DocumentEncoder(exported.encoder.path, device)
    try:
        server = make_server(encoder, host, port, key)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port"
        ) from error
    console = make_console(160)
    console.print(f"{exported.name} {exported.version} on {encoder.device}{', with a key' if key else ''}")
    console.print(f"listening on http://{host}:{server.server_address[1]}/invocations; Ctrl-C ends it")

    answer_until_ended(server, console)
