"""The progress bar: its text, and silence where nobody watches."""

import io

import pytest

from cameo.progress import Pace, ProgressBar, bar_text


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


@pytest.mark.parametrize("shown", [True, False])
def test_a_pipe_gets_a_line_now_and_then(shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = io.StringIO(), [0.0]
    monkeypatch.setattr("sys.stderr", screen)
    with ProgressBar("a.jpg", shown, lambda: now[0]) as bar:
        for done in range(1, 21):
            now[0] = 1.0 * done
            bar(done, 20, ", 3 faces")
    said = screen.getvalue().splitlines()
    assert [line.partition("] ")[2] for line in said] == [
        "5/20, 15 s left, 3 faces",
        "15/20, 5 s left, 3 faces",
    ] * shown


def test_lines_become_seldom_and_go_on() -> None:
    now = [0.0]
    pace, due = Pace(lambda: now[0]), []
    for second in range(1, 201):
        now[0] = 1.0 * second
        if pace.is_due():
            due.append(second)
    assert due == [5, 15, *range(30, 201, 15)]


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    for _ in range(50):
        with ProgressBar("a.jpg", clock=lambda: now[0]) as bar:
            for done in range(5):
                now[0] += 1
                bar(done + 1, 5)
    assert capsys.readouterr().err == ""


def test_other_steps_take_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = io.StringIO(), [0.0]
    monkeypatch.setattr("sys.stderr", screen)
    bar = ProgressBar("a.jpg", clock=lambda: now[0])
    for now[0], done, total in ((100.0, 99, 100), (110.0, 1, 3), (130.0, 2, 3)):
        bar(done, total)
    assert screen.getvalue().splitlines()[-1].endswith("2/3, 10 s left")
