"""The architecture and the initialization are those of nanoGPT."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.model.gpt import GPT, IGNORED_TARGET, GPTConfig

SMALL = GPTConfig(block_size=16, vocab_size=64, n_layer=2, n_head=2, n_embd=32, bias=True)


@pytest.mark.parametrize(
    ("shape", "n_params"),
    [
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 124_439_808),
        ({"n_layer": 24, "n_head": 16, "n_embd": 1024}, 354_823_168),
        ({"n_layer": 36, "n_head": 20, "n_embd": 1280}, 774_030_080),
        ({"n_layer": 48, "n_head": 25, "n_embd": 1600}, 1_557_611_200),
    ],
)
def test_the_gpt2_family_has_the_published_number_of_parameters(shape, n_params):
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab_size=50257, **shape))

    assert model.n_params() == n_params
    assert model.n_params(non_embedding=True) == n_params - 1024 * shape["n_embd"]


def test_the_loss_of_an_untrained_model_is_the_logarithm_of_the_vocabulary_size():
    torch.manual_seed(0)
    model = GPT(SMALL)
    x = torch.randint(64, (8, 16))

    _, loss = model(x, x.roll(-1, dims=1))

    assert loss.item() == pytest.approx(math.log(64), abs=0.05)


@given(position=st.integers(1, 15), seed=st.integers(0, 2**32))
def test_changing_a_token_changes_no_logit_before_it(position, seed):
    """It does change the logit at its own position."""
    torch.manual_seed(seed)
    model = GPT(SMALL).eval()
    x = torch.randint(64, (1, 16))
    other = x.clone()
    other[0, position] = (x[0, position] + 1) % 64

    before, after = model(x, x)[0], model(other, x)[0]

    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.equal(before[:, position], after[:, position])


def test_the_head_and_the_token_embedding_are_one_matrix():
    model = GPT(SMALL)

    assert model.lm_head.weight is model.transformer.wte.weight


def test_projections_back_into_the_stream_start_smaller_by_the_root_of_twice_the_depth():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=64, n_layer=8, n_head=4, n_embd=256))

    mlp = model.transformer.h[0].mlp
    assert mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert mlp.c_proj.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.02)


def test_the_weights_have_nanogpts_names():
    names = set(GPT(SMALL).state_dict())

    assert {
        "transformer.wte.weight", "transformer.wpe.weight", "transformer.h.1.ln_1.weight",
        "transformer.h.1.attn.c_attn.bias", "transformer.h.1.attn.c_proj.weight",
        "transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias", "lm_head.weight",
    } <= names  # fmt: skip


def test_an_ignored_target_does_not_count_in_the_loss():
    torch.manual_seed(0)
    model = GPT(SMALL).eval()
    x = torch.randint(64, (1, 16))
    y = x.clone()
    y[0, 8:] = IGNORED_TARGET

    assert model(x, y)[1].item() == pytest.approx(model(x[:, :8], x[:, :8])[1].item(), abs=1e-5)


def test_without_targets_only_the_last_position_is_computed():
    model = GPT(SMALL).eval()
    x = torch.randint(64, (2, 16))

    logits, loss = model(x)

    assert loss is None
    assert logits.shape == (2, 1, 64)
    assert torch.allclose(logits[:, 0], model(x, x)[0][:, -1], atol=1e-5)


def test_sampling_never_gives_a_padding_id_of_the_vocabulary():
    torch.manual_seed(0)
    model = GPT(SMALL).eval()

    written = model.generate(torch.zeros(1, 1, dtype=torch.long), 200, n_tokens=3, top_k=50)

    assert written.shape == (1, 201)
    assert set(written[0].tolist()) == {0, 1, 2}
