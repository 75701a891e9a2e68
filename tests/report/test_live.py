"""Following a study that others work on, with a clock of its own."""

from __future__ import annotations

import os

import pytest
from optuna.trial import TrialState
from report_studies import add, finish, four

from compress.report.live import QUIET_S, follow
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
