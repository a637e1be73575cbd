"""The learning rate: linear warm-up, cosine decay."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.optim.schedule import learning_rate_at

SHAPE = {"peak": 6e-4, "floor": 6e-5, "warmup_iters": 100, "decay_iters": 1000}


def test_the_first_iteration_has_a_learning_rate_above_zero():
    assert 0 < learning_rate_at(0, **SHAPE) < 1e-5


def test_the_peak_is_reached_at_the_end_of_the_warm_up():
    assert learning_rate_at(100, **SHAPE) == 6e-4


def test_halfway_down_it_is_halfway_between_peak_and_floor():
    assert abs(learning_rate_at(550, **SHAPE) - 3.3e-4) < 1e-9


def test_the_floor_is_reached_and_kept():
    assert learning_rate_at(1000, **SHAPE) == learning_rate_at(10**9, **SHAPE) == 6e-5


@given(warmup=st.integers(0, 50), decay=st.integers(51, 200), i=st.integers(0, 300))
def test_it_rises_during_the_warm_up_never_rises_after_it_and_stays_in_bounds(warmup, decay, i):
    def at(iter_num):
        return learning_rate_at(
            iter_num, peak=1.0, floor=0.1, warmup_iters=warmup, decay_iters=decay
        )

    assert 0 < at(i) <= 1.0
    if i < warmup:
        assert at(i) < at(i + 1)
    else:
        assert at(i) >= at(i + 1) >= 0.1


def test_without_warm_up_it_starts_at_the_peak():
    assert learning_rate_at(0, peak=1.0, floor=0.1, warmup_iters=0, decay_iters=10) == 1.0
