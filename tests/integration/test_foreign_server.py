"""Another program at the port of a service that was killed: it is no service, and is not given the token."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from meterbridge.api import LOCAL_TOKEN
from meterbridge.cli.backend import running_service
from meterbridge.settings import ApiSettings, DatabaseSettings, Settings


def test_a_foreign_server_is_no_service_and_sees_no_token(tmp_path: Path) -> None:
    seen: list[str | None] = []

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    (tmp_path / LOCAL_TOKEN).write_text("mb_secret", encoding="ascii")
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings(
            api=ApiSettings(port=server.server_port), database=DatabaseSettings(key_file=tmp_path / "secrets.key")
        )
        assert running_service(settings) is None
        server.shutdown()
    assert seen == [None]
