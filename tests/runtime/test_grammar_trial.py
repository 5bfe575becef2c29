"""The process that tries grammars: it survives what they do, or another one takes its place."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from llguidance import LLMatcher

from ferrum.runtime import grammar_trial
from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.grammar_trial import GrammarTrial

GOOD = 'start: "yes"'
GREEDY = f"start: /{'a?' * 50_000}/"  # several gigabytes
SLOW = LLMatcher.grammar_from_json_schema(  # most of a second before it has all of its memory
    json.dumps({"allOf": [{"type": "integer", "multipleOf": p} for p in (9973, 9967, 9949, 9941)]})
)


@pytest.fixture
def trial() -> Iterator[GrammarTrial]:
    trial = GrammarTrial()
    yield trial
    trial.close()


def process_of(trial: GrammarTrial) -> int:
    assert trial._process is not None
    return trial._process.pid


def test_a_grammar_that_works_has_no_problem_and_another_has_one(trial: GrammarTrial) -> None:
    assert trial.problem(GOOD) == ""
    first = process_of(trial)
    assert 'unknown name: "yes"' in trial.problem("start: yes")
    assert trial.problem(GOOD) == ""
    assert process_of(trial) == first


def test_a_grammar_that_ends_the_process_is_told_and_the_next_one_is_tried(
    trial: GrammarTrial,
) -> None:
    assert trial.problem(GREEDY).startswith("takes too much memory")
    assert trial.problem(GOOD) == ""


def test_time_counts_that_the_process_has_spent(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trial.problem(GOOD) == ""
    monkeypatch.setattr(grammar_trial, "SECONDS", 0.1)
    os.kill(process_of(trial), signal.SIGSTOP)
    goes_on = threading.Timer(0.5, os.kill, (process_of(trial), signal.SIGCONT))
    goes_on.start()
    assert trial.problem(GOOD) == ""
    goes_on.join()
    assert trial.problem(SLOW).startswith("takes more than")
    assert trial.problem(GOOD) == ""


def test_a_process_that_was_ended_from_outside_is_replaced(trial: GrammarTrial) -> None:
    assert trial.problem(GOOD) == ""
    assert trial._process is not None
    trial._process.kill()
    trial._process.wait()
    assert trial.problem(GOOD) != ""
    assert trial.problem(GOOD) == ""


def test_it_ends_with_its_owner() -> None:
    trial = GrammarTrial()
    assert trial.problem(GOOD) == ""
    process = process_of(trial)
    del trial
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_python_that_does_not_start_is_told(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GrammarError, match=r"/bin/false does not start -> Python with ferrum"):
        trial.problem(GOOD)
