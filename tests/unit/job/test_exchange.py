"""Values that runs share: written once, and read only if their bytes are unchanged."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest

import runwide
from runwide import Exchange
from runwide.errors import (
    DigestMismatch,
    ExchangeTimeout,
    FrameCorrupt,
    InputError,
    ItemNotPicklable,
    ObjectExists,
    RunwideError,
)
from runwide.store import open_store


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "batch-7")


def test_a_published_value_is_the_value_that_another_run_gets(uri):
    Exchange(uri).publish("fr/stats", {"mean": 3, "rows": [1, None]})
    assert Exchange(uri).get("fr/stats") == {"mean": 3, "rows": [1, None]}


def test_it_is_the_same_name_in_the_public_surface():
    assert "Exchange" in runwide.__all__


def test_a_value_is_written_once(uri):
    exchange = Exchange(uri)
    exchange.publish("a", [1])
    exchange.publish("a", [1])  # a step that was restarted
    with pytest.raises(ObjectExists):
        exchange.publish("a", [2])
    assert exchange.get("a") == [1]


def test_a_value_is_waited_for(uri):
    exchange = Exchange(uri)
    timer = threading.Timer(0.4, lambda: Exchange(uri).publish("late", 7))
    timer.start()
    assert exchange.get("late", wait=30) == 7
    timer.join()


@pytest.fixture
def clock(monkeypatch):
    """The time that is waited for, in seconds; it passes at once."""
    now = [0.0]
    time = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda pause: now.append(now.pop() + pause))
    monkeypatch.setattr("runwide.job.exchange.time", time)
    return now


def test_a_value_that_is_not_published_in_time_is_named(uri, clock):
    with pytest.raises(
        ExchangeTimeout, match=r"de/stats was not published within 0\.3 s .*batch-7.*has failed"
    ) as caught:
        Exchange(uri).get("de/stats", wait=0.3)
    assert clock == [pytest.approx(0.3)]
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, RunwideError)


def test_waiting_asks_for_one_name_and_lists_nothing(uri, monkeypatch, clock):
    exchange = Exchange(uri)
    calls = []
    store = type(exchange._store)
    read = store.read
    monkeypatch.setattr(store, "list", lambda *_: pytest.fail("listed"))
    monkeypatch.setattr(store, "read", lambda self, name, **k: calls.append(name) or read(self, name, **k))
    with pytest.raises(ExchangeTimeout):
        exchange.get("x", wait=1.5)
    assert calls == ["x"] * 7  # after 0, 0.1, 0.25, 0.475, … s, and at the end
    assert clock == [pytest.approx(1.5)]


def test_all_that_match_are_collected_in_the_order_of_their_names(uri):
    exchange = Exchange(uri)
    for name in ("fr/stats", "de/stats", "de/model"):
        exchange.publish(name, name.upper())
    assert list(exchange.collect("*/stats").items()) == [("de/stats", "DE/STATS"), ("fr/stats", "FR/STATS")]
    assert exchange.collect("it/*") == {}
    assert Exchange(f"{uri}-new").collect("*") == {}


def test_collect_waits_for_the_wanted_number_of_values(uri):
    exchange = Exchange(uri)
    exchange.publish("a", 1)
    timer = threading.Timer(0.3, lambda: Exchange(uri).publish("b", 2))
    timer.start()
    assert exchange.collect("*", count=2, wait=30) == {"a": 1, "b": 2}
    timer.join()
    with pytest.raises(ExchangeTimeout, match=r"2 of 3 values that match '\*' .* there are a, b"):
        exchange.collect("*", count=3, wait=0.1)


def test_no_member_passes_a_barrier_before_all_have_reached_it(uri):
    members, passed = ["fr", "de", "it"], []

    def come(me, after):
        time.sleep(after)
        Exchange(uri).barrier("loaded", me, members, wait=30)
        passed.append((me, time.monotonic()))

    started = time.monotonic()
    threads = [
        threading.Thread(target=come, args=(me, after))
        for me, after in zip(members, (0, 0.2, 0.6), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 3
    assert all(moment - started >= 0.6 for _, moment in passed)
    assert Exchange(uri).collect("*") == {}  # barriers are no values


def test_a_member_that_does_not_reach_a_barrier_is_named(uri):
    Exchange(uri).barrier("loaded", "de", ["de"], wait=0)
    with pytest.raises(ExchangeTimeout, match="barriers/loaded/it, barriers/loaded/es were not published"):
        Exchange(uri).barrier("loaded", "fr", ["fr", "it", "de", "es"], wait=0.2)
    with pytest.raises(InputError, match="'uk' is not among the members"):
        Exchange(uri).barrier("loaded", "uk", ["fr"], wait=0)


class Bomb:
    """Prints a line when it is unpickled."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.fixture
def store(uri):
    with open_store(uri) as opened:
        yield opened


def moved(store, source: str, target: str) -> None:
    store.create(target, bytes(store.read(source)))


@pytest.fixture
def signed(monkeypatch):
    """With a signing key, any value that can be pickled can be published."""
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "k" * 32)


def test_a_value_under_another_name_or_in_another_exchange_is_not_unpickled(uri, store, tmp_path, signed):
    Exchange(uri).publish("a", Bomb())
    moved(store, "a", "b")
    with pytest.raises(
        FrameCorrupt, match=r"belongs to 'exchange/.*/batch-7/a', not to 'exchange/.*/batch-7/b'"
    ):
        Exchange(uri).get("b")
    with open_store(str(tmp_path / "batch-8")) as other:
        other.create("a", bytes(store.read("a")))
    with pytest.raises(FrameCorrupt, match="belongs to"):
        Exchange(str(tmp_path / "batch-8")).get("a")
    assert not Bomb.exploded


@pytest.mark.parametrize("at", [0, 8, 20, 60, 80, -1])
def test_changed_bytes_are_not_unpickled(uri, store, at, signed):
    Exchange(uri).publish("a", Bomb())
    data = store.read("a")
    data[at] ^= 1
    store.delete("a")
    store.create("a", bytes(data))
    with pytest.raises((DigestMismatch, FrameCorrupt)):
        Exchange(uri).get("a")
    assert not Bomb.exploded


PLAIN = [
    None, True, 2**70, 1.5, float("inf"), 1j, "text", b"bytes", bytearray(b"x"), [1, [2]], (1, (2,)), {1: {"a": 2}},
    {1, 2}, frozenset([1]), range(3), date(2026, 11, 29), datetime(2026, 11, 29, tzinfo=timezone.utc), timedelta(1),
    Decimal("1.5"), UUID(int=7), OrderedDict(a=1), deque([1], 3), np.float32(1.5), np.datetime64("2026-11-29"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_without_a_key_plain_data_is_exchanged(uri, number):
    Exchange(uri).publish("a", PLAIN[number])
    found = Exchange(uri).get("a")
    assert found == PLAIN[number]
    assert type(found) is type(PLAIN[number])


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.arange(20_000), np.array(["a", "bc"]), np.array([1, "x"], dtype=object),
     np.array([(1, 2.5)], dtype=[("a", int), ("b", float)]), np.zeros((0, 3)), np.asfortranarray(np.ones((3, 4)))],
    ids=["small", "large", "text", "objects", "fields", "empty", "columns"],
)  # fmt: skip
def test_without_a_key_arrays_are_exchanged(uri, array):
    Exchange(uri).publish("a", {"array": array, "part": array[::2]})
    found = Exchange(uri).get("a")
    np.testing.assert_array_equal(found["array"], array)
    np.testing.assert_array_equal(found["part"], array[::2])


@pytest.mark.parametrize(
    "value",
    [print, Bomb(), Bomb, lambda x: x, Path("x"), ValueError("x")],
    ids=["builtin", "object", "class", "function", "path", "exception"],
)
def test_without_a_key_publish_rejects_values_that_are_not_plain_data(uri, value):
    with pytest.raises(
        ItemNotPicklable, match=r"is not plain data, and there is no signing key .*runwide keygen"
    ):
        Exchange(uri).publish("a", [value])
    assert not Bomb.exploded


def test_with_a_key_only_signed_values_are_unpickled(uri, monkeypatch):
    Exchange(uri).publish("unsigned", [1])
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "k" * 32)
    Exchange(uri).publish("signed", 1)
    assert Exchange(uri).get("signed") == 1
    with pytest.raises(DigestMismatch, match="not signed"):
        Exchange(uri).get("unsigned")
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "other" * 8)
    with pytest.raises(DigestMismatch, match="another key"):
        Exchange(uri).get("signed")
    assert not Bomb.exploded


def test_an_object_that_is_not_a_value_is_an_error(uri, store):
    store.create("x", b"hello")
    with pytest.raises(FrameCorrupt, match="not a value of an exchange"):
        Exchange(uri).get("x")


@pytest.mark.parametrize("name", ["", "a b", "*/x", "/a", "a//b", "a/", "[x]"])
def test_invalid_names_are_rejected(uri, name):
    with pytest.raises(InputError, match=r"invalid name .* of a value"):
        Exchange(uri).publish(name, 1)


def test_a_value_that_cannot_be_pickled_is_named(uri):
    with pytest.raises(ItemNotPicklable, match="a lock cannot be pickled"):
        Exchange(uri).publish("a", threading.Lock())
