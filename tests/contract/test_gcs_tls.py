"""The same requests over TLS, as with the real service: the emulator is behind a proxy with its own certificate."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import runwide
from runwide.errors import StoreUnavailable
from runwide.store.base import open_store

pytestmark = pytest.mark.gcs

LARGE = bytes(range(256)) * (36 << 10)  # 9 MiB


class Front:
    """A proxy that accepts TLS connections and forwards their data to a server without TLS."""

    def __init__(self, server, certificate):
        address = urlsplit(server)
        self._server = (address.hostname, address.port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._open = []
        self._threads = []
        self._start(self._accept)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._start(self._serve, client)

    def _serve(self, client):
        with suppress(OSError):
            client = self._context.wrap_socket(client, server_side=True)
            server = socket.create_connection(self._server)
            self._open += [client, server]
            self._start(self._pump, server, client)
            self._pump(client, server)

    def _pump(self, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(timeout=10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, plain)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def front(gcs, gcs_server, certificate, monkeypatch):
    front = Front(gcs_server.url, certificate)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    yield front
    front.close()


def test_objects_pass_over_one_connection_that_is_kept(gcs, front):
    store = open_store(gcs)
    store.create("small", b"abc")
    store.create("large", [LARGE, b"end"])
    assert store.read("large") == LARGE + b"end"
    assert store.read("large", start=5, length=len(LARGE) - 5) == LARGE[5:]
    for _ in range(10):
        assert store.read("small") == b"abc"
    assert [info.name for info in store.list()] == ["large", "small"]
    store.delete("small")
    assert front.connections == 1


def test_many_threads_read_what_they_asked_for(gcs, front):
    store = open_store(gcs)
    data = {str(n): bytes([n]) * (200_000 + n) for n in range(16)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(store.create, data, data.values()))
        for _ in range(3):
            assert dict(zip(data, pool.map(store.read, data), strict=True)) == data
    assert front.connections <= 16


def test_a_job_runs_over_tls(gcs, front):
    job = runwide.scatter(lambda x: x * 2, ["a" * 100_000, *range(50)], store=gcs, shards=2)
    shards = [runwide.shard(job, index, workers=1) for index in range(2)]
    assert runwide.gather(job, shards) == ["a" * 200_000, *range(0, 100, 2)]


def test_an_untrusted_certificate_is_reported_at_once(gcs, front, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="certificate") as caught:
        open_store(gcs).create("object", b"abc")
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
    assert time.monotonic() - began < 5
