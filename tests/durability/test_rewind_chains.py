"""Runs that were rewound and resumed many times: the long form of the fold's property test."""

import pytest
from hypothesis import given, settings

from tests.eventlog.fold import test_fold
from tests.strategies import histories

of_one_chain = test_fold.test_every_event_is_live_or_superseded_once_however_a_run_was_rewound
check = of_one_chain.hypothesis.inner_test


@given(histories)
@settings(max_examples=500)
def test_each_event_of_500_rewind_chains_is_live_or_superseded_exactly_once(history):
    check(history)


@pytest.mark.slow
@given(histories)
@settings(max_examples=10_000, deadline=None)
def test_each_event_of_10_000_rewind_chains_is_live_or_superseded_exactly_once(history):
    check(history)
