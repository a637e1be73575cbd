"""LayerNorm and the loss as one operation each: the values of PyTorch, in less memory.

Each promise is kept three times: on PyTorch's operations, which is what runs without a GPU; by
Triton's kernels interpreted on the CPU; and by the kernels on a GPU, where there is one.
"""

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.trainer.model import interpreter
from tests.trainer.model.interpreter import differentiate, train_step
from trainer.model import fused
from trainer.model.gpt import GPT

HALF = (torch.bfloat16, torch.float16)
# A step at 1; the interpreter cuts off what a GPU would round, so it may be one whole step away.
EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, *HALF)}

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="session")
def interpreted():
    with interpreter.interpreter() as call:
        yield call


BACKENDS = ["pytorch", pytest.param("interpreter", marks=needs_triton)]
if torch.cuda.is_available():
    BACKENDS.append(pytest.param("cuda", marks=needs_triton))


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def on_backend(backend, request):
    """`on_backend(function, *args)`: the result of a function on that backend."""
    if backend == "interpreter":
        return request.getfixturevalue("interpreted")
    return lambda function, *args, **more: function(*args, **more)


@pytest.fixture
def device(backend):
    return "cuda" if backend == "cuda" else "cpu"


def close(got, expected, *, scale=0.0, noise=0.0):
    """Within eight units in the last place of the largest value, or of `scale` if that is larger.

    The steps are those of the value's own dtype; `noise` is a magnitude that was computed with, and
    rounded, in float32.
    """
    assert got.shape == expected.shape
    largest = max(scale, expected.abs().max().item())
    atol = 8 * (EPS[got.dtype] * largest + EPS[torch.float32] * noise)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=atol, equal_nan=True)


def exactly(function, inputs, dy=None):
    """The value and gradients of PyTorch, computed in float64 from the same inputs."""
    double = [x.double() if x is not None and x.is_floating_point() else x for x in inputs]
    return differentiate(function, double, dy if dy is None else dy.double())


def layer_norm_of_pytorch(x, weight, bias):
    return F.layer_norm(x, weight.shape, weight, bias)


def loss_of_pytorch(x, weight, targets):
    return F.cross_entropy(F.linear(x, weight), targets, ignore_index=-1)


def norm_inputs(shape, dtype, *, bias=True, spread=1.0, seed=0):
    """x, weight, bias, and the gradient of the result."""
    torch.manual_seed(seed)
    x, weight, b, dy = (
        torch.randn(size).to(dtype) for size in (shape, shape[-1:], shape[-1:], shape)
    )
    return [spread * x + spread, weight, b if bias else None], dy


def loss_inputs(N, C, V, dtype=torch.float32, *, ignored=0.3, spread=1.0, seed=0):
    """x, weight and targets whose logits have the deviation `spread`."""
    torch.manual_seed(seed)
    x = torch.randn(N, C).to(dtype)
    weight = (spread * torch.randn(V, C) / C**0.5).to(dtype)
    targets = torch.randint(V, (N,))
    return [x, weight, targets.masked_fill(torch.rand(N) < ignored, -1)]


def noise_of(x, weight, dy):
    """The size of the numbers in a norm: large if a row has a small deviation."""
    rstd = (x.double().var(dim=-1, correction=0) + 1e-5).rsqrt().max().item()
    steep = max(1.0, rstd) * max(1.0, rstd * x.abs().max().item())
    return steep * max(1.0, weight.abs().max().item()) * max(1.0, dy.abs().max().item())


def check_norm(got, inputs, dy):
    y, grads = got
    expected, expected_grads = exactly(layer_norm_of_pytorch, inputs, dy)
    noise = noise_of(*inputs[:2], dy)
    close(y, expected, noise=noise)
    for grad, its_expected in zip(grads, expected_grads, strict=True):
        if its_expected is not None:
            close(grad, its_expected, noise=noise)


def check_loss(got, inputs):
    loss, grads = got
    assert loss.dtype == torch.float32
    expected, expected_grads = exactly(loss_of_pytorch, inputs)
    # Logits are rounded in their dtype, and their log-sum-exp: both are exponents of the gradient.
    exponent = F.linear(*inputs[:2]).float().abs().max().item() + math.log(len(inputs[1]))
    close(loss, expected, noise=exponent * EPS[inputs[0].dtype] / EPS[torch.float32])
    # What is summed is a probability, less 1 at the target, times the other factor: where the
    # probability is nearly 1 the sum is small and its rounding errors are not.
    n_counted = max(1, (inputs[2] != -1).sum().item())
    for grad, its_expected, other in zip(grads[:2], expected_grads[:2], inputs[1::-1], strict=True):
        largest = max(its_expected.abs().max().item(), other.abs().max().item() / n_counted)
        close(grad, its_expected, scale=(1 + exponent) * largest)


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", [(3, 5, 48), (1, 384), (9, 1), (130, 33), (2, 2500)], ids=str)
def test_a_layer_norm_and_its_gradients_equal_pytorchs(on_backend, device, shape, bias, dtype):
    inputs, dy = norm_inputs(shape, dtype, bias=bias)

    got = on_backend(differentiate, fused.layer_norm, inputs, dy, device=device)

    check_norm(got, inputs, dy)


def test_the_statistics_of_a_half_precision_norm_are_in_float32(on_backend, device):
    """In float16 the square of a deviation of 1,000 is infinite, and so the norm would be zero."""
    inputs, dy = norm_inputs((4, 48), torch.float16, spread=1000.0)

    got = on_backend(differentiate, fused.layer_norm, inputs, dy, device=device)

    check_norm(got, inputs, dy)


def test_a_norm_of_a_transposed_tensor_is_correct(on_backend, device):
    inputs, dy = norm_inputs((7, 48), torch.float32)
    inputs[0], dy = inputs[0].T.contiguous().T, dy.T.contiguous().T

    got = on_backend(differentiate, fused.layer_norm, inputs, dy, device=device)

    check_norm(got, inputs, dy)


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize(
    ("N", "C", "V"), [(7, 48, 100), (1, 33, 257), (9, 16, 4096), (5, 8, 4099), (3, 1, 2)], ids=str
)
def test_a_loss_and_its_gradients_equal_pytorchs(on_backend, device, N, C, V, dtype):
    inputs = loss_inputs(N, C, V, dtype)

    got = on_backend(differentiate, fused.linear_cross_entropy, inputs, device=device)

    check_loss(got, inputs)


@pytest.mark.parametrize("n_rows", [1, 3, 4, 8, 100])
def test_the_size_of_a_chunk_does_not_change_the_loss(on_backend, device, n_rows):
    inputs = [torch.tensor(n_rows), *loss_inputs(8, 16, 50)]

    loss, grads = on_backend(differentiate, interpreter.loss_in_chunks, inputs, device=device)

    check_loss((loss, grads[1:]), inputs[1:])


def test_without_any_target_that_counts_the_loss_is_nan_and_the_gradients_zero(on_backend, device):
    inputs = loss_inputs(5, 16, 50, ignored=1.1)

    loss, grads = on_backend(differentiate, fused.linear_cross_entropy, inputs, device=device)

    assert loss.isnan()
    assert not any(grad.any() for grad in grads[:2])


@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_large_logits_do_not_overflow(on_backend, device, dtype):
    inputs = loss_inputs(6, 16, 500, dtype, spread=3000.0)

    loss, grads = on_backend(differentiate, fused.linear_cross_entropy, inputs, device=device)

    logits = F.linear(*(x.to(dtype) for x in inputs[:2])).float()
    expected = F.cross_entropy(logits, inputs[2], ignore_index=-1)
    assert expected > 3000
    assert loss.item() == pytest.approx(expected.item(), rel=4 * EPS[dtype])
    assert all(grad.isfinite().all() for grad in grads[:2])


@pytest.mark.parametrize("column", [0, 4095, 4096, 8192, 8196])
def test_the_largest_logit_may_be_in_any_tile(on_backend, device, column):
    inputs = loss_inputs(2, 8, 8197, ignored=0.0)
    inputs[1][column] = 2 * inputs[0].sum(dim=0)

    got = on_backend(differentiate, fused.linear_cross_entropy, inputs, device=device)

    check_loss(got, inputs)


def test_a_scaled_loss_keeps_gradients_that_would_underflow_in_float16(on_backend, device):
    """The softmax of 5,000 equal logits, over as many rows, is below the least float16."""
    N, V = 6, 5000
    x, weight, targets = loss_inputs(N, 8, V, torch.float16, ignored=0.0, spread=0.01)
    scale = torch.tensor(2.0**16 / V)

    _, (dx, dweight, _) = on_backend(
        differentiate, fused.linear_cross_entropy, [x.float(), weight.float(), targets],
        scale, device=device, autocast=torch.float16,
    )  # fmt: skip

    _, (expected_dx, expected_dweight, _) = exactly(loss_of_pytorch, [x, weight, targets], scale)
    close(dx.half(), expected_dx)
    missed = targets.new_ones(V, dtype=torch.bool).index_fill(0, targets, False)
    close(dweight[missed].half(), expected_dweight[missed])


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_under_autocast_the_loss_and_the_gradients_are_float32_of_a_half_precision_matmul(
    on_backend, device, dtype
):
    inputs = loss_inputs(7, 48, 100)
    more = {"device": device, "autocast": dtype}

    loss, grads = on_backend(differentiate, fused.linear_cross_entropy, inputs, **more)

    halves = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    expected, expected_grads = exactly(loss_of_pytorch, halves)
    assert loss.dtype == grads[0].dtype == grads[1].dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=EPS[dtype])
    assert loss.item() != pytest.approx(exactly(loss_of_pytorch, inputs)[0].item(), rel=1e-6)
    for grad, its_expected in zip(grads[:2], expected_grads[:2], strict=True):
        close(grad.to(dtype), its_expected, scale=4 * its_expected.abs().max().item())


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_under_autocast_a_norm_is_what_the_next_matmul_would_cast_it_to(
    on_backend, backend, device, dtype
):
    inputs, dy = norm_inputs((6, 48), torch.float32)
    dy = dy.to(dtype).float()
    more = {"device": device, "autocast": dtype}

    y, grads = on_backend(differentiate, fused.layer_norm, inputs, dy, **more)

    expected, expected_grads = exactly(layer_norm_of_pytorch, inputs, dy)
    assert y.dtype == (torch.float32 if backend == "pytorch" else dtype)
    close(y.to(dtype), expected)
    for grad, its_expected in zip(grads, expected_grads, strict=True):
        assert grad.dtype == torch.float32
        close(grad, its_expected, noise=noise_of(*inputs[:2], dy))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_the_gradient_of_the_weight_is_summed_in_float32(on_backend, device, dtype):
    inputs = loss_inputs(8, 16, 50, ignored=0.0)  # a mean over 8 rounds nothing
    more = {"device": device, "autocast": dtype}

    _, (_, dweight, _) = on_backend(differentiate, fused.linear_cross_entropy, inputs, **more)

    assert (dweight != dweight.to(dtype)).float().mean() > 0.5


def test_a_target_beyond_the_vocabulary_is_refused():
    x, weight, targets = loss_inputs(4, 8, 10, ignored=0.0)
    targets[2] = 10

    with pytest.raises(RuntimeError, match="a target is neither"):
        fused.linear_cross_entropy(x, weight, targets)


def test_without_a_backward_the_loss_is_the_same_and_no_gradient_is_made(on_backend):
    inputs = loss_inputs(7, 16, 50)

    loss, n_bytes = on_backend(interpreter.loss_without_gradient, *inputs)

    assert loss.item() == pytest.approx(loss_of_pytorch(*inputs).item(), abs=1e-6)
    assert n_bytes < inputs[1].nbytes * 7 / 16 + 1000


def test_the_logits_are_never_stored_as_a_whole(on_backend):
    N, C, V = 64, 4, 1000
    inputs = [torch.tensor(8), *loss_inputs(N, C, V)]

    n_bytes = on_backend(interpreter.largest_allocation_bytes, interpreter.loss_in_chunks, inputs)

    assert n_bytes <= 8 * V * 4
    plain = interpreter.largest_allocation_bytes(loss_of_pytorch, inputs[1:])
    assert plain >= N * V * 4


sizes = st.integers(1, 70)


@pytest.mark.parametrize("backend", BACKENDS[1:], indirect=True)  # nothing to test
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_rows=st.integers(1, 40), C=sizes, bias=st.booleans(), dtype=st.sampled_from(list(EPS)),
    spread=st.sampled_from([1e-2, 1.0, 30.0]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_any_layer_norm_equals_pytorchs(on_backend, device, n_rows, C, bias, dtype, spread, seed):
    inputs, dy = norm_inputs((n_rows, C), dtype, bias=bias, spread=spread, seed=seed)

    got = on_backend(differentiate, fused.layer_norm, inputs, dy, device=device)

    check_norm(got, inputs, dy)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    N=st.integers(1, 6), C=sizes, V=st.integers(1, 5000), dtype=st.sampled_from(list(EPS)),
    ignored=st.sampled_from([0.0, 0.3, 1.1]), spread=st.sampled_from([1e-2, 1.0, 5.0]),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_any_loss_equals_pytorchs(on_backend, device, N, C, V, dtype, ignored, spread, seed):
    inputs = loss_inputs(N, C, V, dtype, ignored=ignored, spread=spread, seed=seed)

    got = on_backend(differentiate, fused.linear_cross_entropy, inputs, device=device)

    check_loss(got, inputs)


def batch():
    torch.manual_seed(0)
    tokens = torch.randint(48, (2, 5))
    return tokens[:, :-1], tokens[:, 1:]


@pytest.mark.parametrize(
    "how", [{}, {"recompute": True}, {"wrap": "ddp"}, {"wrap": "fsdp"}], ids=str
)
def test_a_fused_model_has_the_loss_and_gradients_of_the_plain_model(on_backend, how):
    x, y = batch()

    outcome = on_backend(train_step, x, y, fused=True, **how)

    check_step(outcome, x, y)


@needs_triton
def test_a_compiled_model_has_the_kernels_in_one_graph(interpreted):
    x, y = batch()

    outcome = interpreted(train_step, x, y, fused=True, compiled=True)

    check_step(outcome, x, y)


def check_step(outcome, x, y):
    loss, grads = outcome
    expected, expected_grads = train_step(x, y, fused=False)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        close(grad, expected_grads[name].double(), scale=10.0)


def test_a_checkpoint_of_either_model_loads_into_the_other():
    plain, quick = GPT(interpreter.TINY), GPT(interpreter.TINY, fused=True)

    quick.load_state_dict(plain.state_dict())
    plain.load_state_dict(quick.state_dict())

    x, _ = batch()
    assert torch.allclose(plain.eval()(x)[0], quick.eval()(x)[0], atol=1e-6)


def test_a_fused_model_generates_the_same_text_as_the_plain_model():
    torch.manual_seed(0)
    plain, quick = GPT(interpreter.TINY).eval(), GPT(interpreter.TINY, fused=True).eval()
    quick.load_state_dict(plain.state_dict())
    start = torch.zeros(1, 1, dtype=torch.long)

    texts = []
    for model in (plain, quick):
        torch.manual_seed(1)
        texts.append(model.generate(start, 8).tolist())

    assert texts[0] == texts[1]


@needs_triton
def test_the_kernels_pass_pytorchs_check_of_custom_operators(interpreted):
    interpreted(interpreter.check_operators)


@needs_triton
@pytest.mark.parametrize("compute_capability", [pytest.param(80, marks=pytest.mark.slow), 90])
def test_the_kernels_compile_for_a_gpu_that_is_not_installed(
    compute_capability, tmp_path, monkeypatch
):
    """In another process, without the interpreter."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        names = pool.submit(interpreter.compile_kernels, compute_capability).result()

    assert len(names) == 3


def test_the_reason_why_triton_cannot_be_used_is_one_line(monkeypatch):
    monkeypatch.setattr(fused, "IS_INTERPRETED", False)
    monkeypatch.setattr(fused, "IS_INSTALLED", True)
    assert interpreter.why_not("cpu") == "triton needs a GPU, and the device is cpu"
    assert interpreter.why_not("cuda") == ""

    monkeypatch.setattr(fused, "IS_INSTALLED", False)
    assert interpreter.why_not("cuda") == "triton is not installed (pip install triton)"


@needs_triton
def test_the_interpreter_is_used_on_the_cpu_on_request(interpreted):
    assert interpreted(interpreter.why_not, "cpu") == ""
