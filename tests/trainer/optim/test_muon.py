"""Muon: its update equals PyTorch's, and is computed in float32 on a CPU."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.model.gpt import GPT, GPTConfig
from trainer.optim.muon import Muon, orthogonalize
from trainer.optim.optimizer import Optimizer

ALWAYS = torch.tensor(True)
CONFIG = GPTConfig(block_size=8, vocab_size=64, n_layer=1, n_head=2, n_embd=16)


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 48), n=st.integers(1, 48), seed=st.integers(0, 999), data=st.data())
def test_singular_values_come_near_one_for_any_shape_and_scale(m, n, seed, data):
    scale = data.draw(st.sampled_from([1e-12, 1e-6, 1.0, 1e6]))
    matrix = random_matrix(m, n, seed) * scale
    values = torch.linalg.svdvals(matrix)
    large = values >= 0.002 * torch.linalg.vector_norm(values)

    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.diagonal(u.mT @ orthogonalize(matrix) @ vh.mT)

    assert (along[large] > 0.66).all()
    assert (along < 1.21).all()


def test_singular_vectors_do_not_change():
    matrix = random_matrix(8, 20, seed=1)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)

    inside = u.mT @ orthogonalize(matrix) @ vh.mT

    assert (inside - inside.diagonal().diag()).abs().max() < 1e-5


def test_a_zero_matrix_stays_zero():
    assert orthogonalize(torch.zeros(3, 5)).equal(torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_its_steps_equal_those_of_pytorchs_muon_up_to_bfloat16(shape):
    ours, theirs = (torch.nn.Parameter(random_matrix(*shape, seed=0)) for _ in range(2))
    settings = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
    muons = [
        Muon([ours], **settings),
        torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings),
    ]
    start = ours.detach().clone()

    for seed in range(5):
        ours.grad = random_matrix(*shape, seed=seed)
        theirs.grad = ours.grad.clone()
        for muon in muons:
            muon.step()

    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    assert muons[0].state[ours]["momentum_buffer"].equal(muons[1].state[theirs]["momentum_buffer"])


def test_an_update_has_the_size_of_adamws():
    parameter = torch.nn.Parameter(torch.zeros(32, 96))
    parameter.grad = random_matrix(32, 96, seed=0)

    Muon([parameter], lr=1.0).step()

    root_mean_square = parameter.detach().square().mean().sqrt().item()
    assert math.isclose(root_mean_square, 0.2, rel_tol=0.2)


def test_on_a_cpu_nothing_is_bfloat16():
    parameter = torch.nn.Parameter(random_matrix(6, 9, seed=0))
    parameter.grad = random_matrix(6, 9, seed=1)
    muon = Muon([parameter], lr=0.1)

    with Dtypes() as seen:
        muon.step()

    assert seen.dtypes == {torch.float32}


def test_it_resumes_from_the_state_of_pytorchs_muon():
    weight, gradients = random_matrix(6, 9, seed=0), [random_matrix(6, 9, s) for s in range(4)]
    theirs = torch.nn.Parameter(weight.clone())
    before = torch.optim.Muon([theirs], lr=0.1)
    for gradient in gradients:
        theirs.grad = gradient
        before.step()
    parameters = {"h.0.weight": torch.nn.Parameter(theirs.detach().clone())}
    optimizer = Optimizer(
        parameters, name="muon", learning_rate=0.1, weight_decay=0.1, betas=(0.9, 0.95)
    )

    state = {f"h.0.weight.{kind}": value for kind, value in before.state[theirs].items()}
    optimizer.load_state(state, lambda value, _: value.clone())

    assert list(optimizer.state()) == list(state)
    assert optimizer.state()["h.0.weight.momentum_buffer"].equal(
        before.state[theirs]["momentum_buffer"]
    )


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("share_of_peak", [1.0, 0.1])
def test_the_token_embedding_has_its_own_learning_rate(name, share_of_peak):
    model = GPT(CONFIG)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(
        dict(model.named_parameters()), name=name, learning_rate=1e-3, weight_decay=0.0,
        betas=(0.9, 0.95), embedding_learning_rate=5e-3,
    )  # fmt: skip
    x = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(0))
    model(x, x)[1].backward()

    if share_of_peak != 1.0:
        optimizer.set_learning_rate(share_of_peak * 1e-3)
    optimizer.step(ALWAYS)

    # AdamW's first step moves each element by its learning rate.
    moved = {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}
    assert math.isclose(moved["transformer.wte.weight"], share_of_peak * 5e-3, rel_tol=0.01)
    assert math.isclose(moved["transformer.wpe.weight"], share_of_peak * 1e-3, rel_tol=0.01)
    assert math.isclose(moved["transformer.ln_f.weight"], share_of_peak * 1e-3, rel_tol=0.01)


def random_matrix(m, n, seed):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


class Dtypes(TorchDispatchMode):
    """The dtypes of all operations of torch while it is entered."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.dtypes.add(result.dtype)
        return result
