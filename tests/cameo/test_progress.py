"""The progress bar: its text, and silence where nobody watches."""

import io

import pytest

from cameo.progress import ProgressBar, bar_text


def test_the_bar_grows_and_says_how_long() -> None:
    assert bar_text("a.jpg", 0, 12, 0.5) == f"a.jpg [{'.' * 30}] 0/12"
    assert bar_text("a.jpg", 4, 12, 4.5) == f"a.jpg [{'#' * 10}{'.' * 20}] 4/12, 9 s left"
    assert bar_text("a.jpg", 12, 12, 13.5) == f"a.jpg [{'#' * 30}] 12/12"


def test_it_wipes_itself_out_and_is_silent_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda shown=terminal: shown)
        monkeypatch.setattr("sys.stderr", screen)
        with ProgressBar("a.jpg") as bar:
            bar(1, 2)
        assert ("1/2" in screen.getvalue()) == terminal
        assert screen.getvalue().rpartition("\r")[0].endswith(" ") == terminal
