"""Following a study that others work on, with a clock of its own; pages beside a run."""

from __future__ import annotations

import os
import threading
import time

import pytest
from optuna.trial import TrialState
from report_studies import add, finish, four

from compress.report.live import QUIET_S, SHARE, Beside, follow, live_outcome
from compress.search.store import owner

HERE = owner()
GONE = owner().replace(f":{os.getpid()}:", ":999999999:")


class Watch:
    """Time that passes only while somebody waits; ``then`` happens after so many waits."""

    def __init__(self, **then) -> None:
        self.now, self.waits, self.written, self.then = 0.0, 0, [], then

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        act = self.then.get(f"after_{self.waits}")
        if act:
            act()
        assert self.waits < 1000, "it goes on for ever"

    def run(self, study, folder, every_s=10.0) -> None:
        follow(
            study, folder, self.written.append, every_s, sleep=self.sleep, clock=lambda: self.now
        )


def test_it_ends_with_the_study(tmp_path):
    study = four()
    number = add(study, (0.5,), state=TrialState.RUNNING, raw={"owner": HERE})
    watch = Watch(
        after_3=lambda: study.tell(number, state=TrialState.FAIL),
        after_5=lambda: finish(study, 2, 0.87, heldout=0.83),
    )
    watch.run(study, tmp_path)
    # Rewritten before each wait; two looks find the end, and the last page does not reload itself.
    assert watch.written == [10] * 6 + [None]


def test_a_finished_study_that_is_taken_up_again_is_followed_on(tmp_path):
    study = four()
    finish(study, 2, 0.87, heldout=0.83)

    def again():
        self.number = add(study, (0.5,), state=TrialState.RUNNING, raw={"owner": HERE})

    self = Watch(after_1=again, after_4=lambda: study.tell(self.number, state=TrialState.FAIL))
    self.run(study, tmp_path)
    assert self.waits == 5 and self.written[-1] is None


def test_a_killed_study_is_left_after_a_quarter_of_an_hour(tmp_path):
    study = four()
    add(study, (0.5,), state=TrialState.RUNNING, raw={"owner": GONE})
    watch = Watch()
    watch.run(study, tmp_path, 60.0)
    assert QUIET_S <= watch.now <= QUIET_S + 120
    # A winner in training stores nothing but checkpoints: these keep it alive.
    (tmp_path / "checkpoints").mkdir()
    busy = Watch(after_10=lambda: (tmp_path / "checkpoints" / "final.pt").write_bytes(b"x"))
    busy.run(study, tmp_path, 60.0)
    assert QUIET_S + 600 <= busy.now <= QUIET_S + 720


def test_ctrl_c_leaves_a_page_that_does_not_reload_itself(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    watch = Watch(after_2=interrupt)
    with pytest.raises(KeyboardInterrupt):
        watch.run(four(), tmp_path, 0.4)
    assert watch.written == [1, 1, None]


def until(met, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_page_is_written_where_something_changed_and_not_after_the_block():
    written, stamp = [], [None]
    with Beside(written.append, lambda: stamp[0], 0.05, print):
        time.sleep(0.3)
        assert written == []  # there is nothing yet
        stamp[0] = "a"
        until(lambda: written == [1])
        time.sleep(0.2)
        assert written == [1]
        stamp[0] = "b"
        until(lambda: written == [1, 1])
    stamp[0] = "c"
    time.sleep(0.2)
    # The last page is for whoever began the block.
    assert written == [1, 1] and "live page" not in {one.name for one in threading.enumerate()}


def test_a_block_that_raises_leaves_a_page_that_does_not_reload_itself():
    written = []
    with pytest.raises(KeyboardInterrupt), Beside(written.append, lambda: 1, 7.4, print):
        until(lambda: written)
        raise KeyboardInterrupt
    assert written == [7, None]
    with pytest.raises(ValueError), Beside(written.append, lambda: None, 9, print):
        raise ValueError  # before there was anything to show
    assert len(written) == 2


def test_a_page_that_cannot_be_written_is_one_line_and_breaks_nothing(tmp_path):
    said, tries = [], []

    def write(refresh):
        tries.append(refresh)
        raise OSError("no space\nleft")

    with Beside(write, lambda: len(tries), 0.01, said.append):
        until(lambda: len(tries) > 2)
    assert len(said) == 1 and "no space left" in said[0] and "goes on" in said[0]
    said.clear()
    (tmp_path / "page.html").mkdir()  # in the way
    with live_outcome(tmp_path / "page.html", {}, 1, said.append) as add:
        add({"target": {"macs": 1e6}})
        until(lambda: len(said) == 2)
    assert "written again every 1 s" in said[0] and "cannot be written" in said[1]


def test_what_is_slow_to_write_is_written_less_often():
    written = []

    def write(refresh):
        written.append(time.monotonic())
        time.sleep(0.05)

    with Beside(write, lambda: len(written), 0.01, print):
        until(lambda: len(written) == 2)
    assert written[1] - written[0] >= 0.05 / SHARE


def test_the_page_of_a_run_so_far(tmp_path):
    page, cut = tmp_path / "small.html", {
        "number": 1, "layer": "a", "before": 8, "after": 4, "resource": 1.9e6, "accuracy": 0.6,
    }  # fmt: skip
    begun = {"model": "small.safetensors", "command": ["compress", "prune", "big.safetensors"]}
    with pytest.raises(RuntimeError), live_outcome(page, begun, 1, print) as add:
        add({"target": {"macs": 2e6}, "before": {"macs": 4e6}})
        until(page.is_file)
        text = page.read_text("utf-8")
        assert '<meta http-equiv="refresh" content="1">' in text
        assert "Still running: 0 cuts so far; at most 2 M MACs are asked for" in text
        assert "compress prune big.safetensors" in text and "compress predict" not in text
        add({"iterations": [cut], "before": {"accuracy": 0.8}})
        until(lambda: "1 cut so far, 1.9 M MACs left" in page.read_text("utf-8"))
        raise RuntimeError
    text = page.read_text("utf-8")
    assert "refresh" not in text and "Interrupted; the same command goes on: 1 cut" in text
    assert ">4 M<" in text and "0.8000" in text  # merged into what was known before
    assert "After" not in text and "Change" not in text


def test_the_page_of_a_gating_so_far(tmp_path):
    page = tmp_path / "gated.html"
    with live_outcome(page, {}, 1, print) as add:
        epochs = [{"phase": "lower", "density": 0.8, "delta1": 0.7}]
        add({"density": 0.5, "densities": {"a": 0.5}, "epochs": epochs, "target": None})
        until(page.is_file)
    text = page.read_text("utf-8")
    assert "Still running: 1 epoch so far, at density 0.80; density 0.5 is asked for." in text
    assert "d1 over 1 epochs" in text and "does not say" not in text
    with live_outcome(tmp_path / "none.html", {}, None, print) as add:
        add({"density": 0.5})
    assert not (tmp_path / "none.html").exists()
