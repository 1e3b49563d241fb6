"""Commands that answer over HTTP until they are ended."""

from __future__ import annotations

import signal
from http.server import HTTPServer

from rich.console import Console


def answer_until_ended(server: HTTPServer, console: Console) -> None:
    """Answer requests until Ctrl-C or SIGTERM, and give the port back."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for sent in (signal.SIGINT, signal.SIGTERM):  # a shell starts what is behind & deaf to the first
        signal.signal(sent, end)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        server.server_close()
