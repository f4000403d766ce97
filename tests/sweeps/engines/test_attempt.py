"""What a worker makes of a job, whatever happens in it."""

import os
import signal
import threading

from engine_jobs import Locked, Saying
from filelock import FileLock

from spectral_tl_bench.sweeps.engines.base import attempt
from spectral_tl_bench.utils.interruption import Interruption


def test_a_lock_that_a_lost_worker_still_holds_is_waited_for(tmp_path):
    lost = FileLock(tmp_path / ".lock", thread_local=False)
    lost.acquire()
    threading.Timer(0.2, lost.release).start()
    outcome = attempt(Locked("l", tmp_path), Interruption(), again=True, patience=5.0)
    assert (outcome.kind, outcome.text) == ("done", "time 1")


def test_a_lock_that_stays_is_somebody_elses(tmp_path):
    with FileLock(tmp_path / ".lock"):
        assert attempt(Locked("l", tmp_path), Interruption(), again=True, patience=0.1).kind == "in use"
        assert attempt(Locked("l", tmp_path), Interruption(), again=False).seconds < 1


def test_a_machine_without_the_files_says_so(tmp_path):
    here = os.getcwd()
    outcome = attempt(Saying("s"), Interruption(), again=False, directory=tmp_path / "elsewhere")
    assert outcome.kind == "failed"
    assert "every machine needs the same files" in outcome.text
    assert os.getcwd() == here


def test_a_job_that_is_asked_to_end_before_it_begins_does_nothing(tmp_path):
    heard = Interruption()

    class Asking(Saying):
        def __call__(self, interruption):
            interruption.end_if_requested("before it began")
            return "done all the same"

    with heard.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        outcome = attempt(Asking("a"), heard, again=False)
    assert outcome.kind == "interrupted"
    assert "SIGTERM" in outcome.text
