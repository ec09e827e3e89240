"""A Secret Manager with one secret in it."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

KEY = "0123456789abcdef0123456789abcdef"
NAME = "projects/p/secrets/runwide/versions/latest"


class SecretManager(BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path == f"/v1/{NAME}:access"
        answer = (
            {"payload": {"data": base64.b64encode(KEY.encode()).decode()}}
            if found
            else {"error": {"message": "no"}}
        )
        body = json.dumps(answer).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def secret_manager(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), SecretManager)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv(
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", f"http://127.0.0.1:{server.server_address[1]}/"
    )
    yield
    server.shutdown()
    thread.join()
    server.server_close()
