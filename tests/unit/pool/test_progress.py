"""How far a map is, where somebody looks."""

from __future__ import annotations

import pytest

import runwide
from runwide.pool import progress


@pytest.mark.parametrize("place", [{}, {"store": "memory://bars"}])
def test_a_bar_knows_how_many_items_there_are_with_a_store_too(place, monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert runwide.map(abs, [-1, -2, -3], workers=1, progress=True, **place) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err


def test_a_bar_in_a_notebook_without_widgets_is_text_and_warns_of_nothing(monkeypatch, capsys):
    def autonotebook(name, *rest):
        if name == "tqdm.auto":
            import warnings

            from tqdm import TqdmWarning

            warnings.warn("IProgress not found", TqdmWarning, stacklevel=2)
        return load(name, *rest)

    import builtins

    load = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", autonotebook)  # warnings are errors in these tests
    progress.bar(3, 1).close()
    assert "1/3" in capsys.readouterr().err
