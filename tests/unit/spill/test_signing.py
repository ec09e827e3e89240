"""A signing key comes from the environment, a file or Secret Manager, and is refused if it is too short."""

from __future__ import annotations

from pathlib import Path

import pytest
from secret_manager import KEY, NAME, secret_manager

from runwide.errors import DigestMismatch, InputError, ObjectNotFound
from runwide.store import signing

__all__ = ["secret_manager"]


def test_without_a_key_nothing_is_signed_and_everything_passes():
    assert signing.sign("00", "pack") == signing.UNSIGNED
    signing.check(b"anything", "00", "pack")


def test_with_a_key_only_its_own_signatures_pass(monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    mac = signing.sign("00", "pack")
    signing.check(mac, "00", "pack")
    for found, digest, kind in ((mac, "01", "pack"), (mac, "00", "manifest"), (mac[::-1], "00", "pack")):
        with pytest.raises(DigestMismatch, match="signed with another key"):
            signing.check(found, digest, kind)
    with pytest.raises(DigestMismatch, match="not signed"):
        signing.check(signing.UNSIGNED, "00", "pack", uri="gs://b/o")


def test_a_file_may_hold_it(monkeypatch, tmp_path):
    Path(tmp_path, "key").write_text(KEY + "\n")
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_FILE", str(tmp_path / "key"))
    assert signing.key() == KEY.encode()


def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"signing key cannot be read.*nowhere"):
        signing.key()


def test_a_key_that_can_be_guessed_is_refused(monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "secret")
    with pytest.raises(InputError, match="openssl rand"):
        signing.key()


def test_the_key_is_not_shown(monkeypatch):
    from runwide import settings

    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    assert KEY not in repr(settings.read())


@pytest.mark.usefixtures("secret_manager")
def test_secret_manager_may_hold_it(monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_SECRET", NAME)
    assert signing.key() == KEY.encode()


@pytest.mark.usefixtures("secret_manager")
def test_a_missing_secret_is_named(monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_SECRET", NAME + "-not")
    with pytest.raises(ObjectNotFound) as caught:
        signing.key()
    assert caught.value.uri == NAME + "-not"
