"""FLOPs, peaks and the MFU."""

import pytest
import torch

from trainer.model.flops import flops_per_token, known_peak_flops, measure_peak_flops, mfu_percent
from trainer.model.flops import peak_flops as find_peak_flops


def test_the_flops_of_a_gpt2_token_follow_palms_formula():
    flops = flops_per_token(n_params=123_653_376, n_layer=12, n_embd=768, block_size=1024)

    assert flops == 6 * 123_653_376 + 12 * 12 * 12 * 64 * 1024


def test_a_device_at_its_peak_has_an_mfu_of_100_percent():
    assert mfu_percent(312e12, time_ms=1000, peak_flops=312e12) == 100
    assert mfu_percent(156e12, time_ms=1000, peak_flops=312e12) == 50


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312e12),
        ("NVIDIA A100-SXM4-80GB", torch.float32, 156e12),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756e12),
        ("NVIDIA H200", torch.bfloat16, 989e12),
        ("NVIDIA L4", torch.float16, 121e12),
        ("NVIDIA L40S", torch.bfloat16, 362e12),
        ("Tesla V100-SXM2-16GB", torch.float16, 125e12),
        ("NVIDIA A10G", torch.bfloat16, 70e12),
        ("AMD Instinct MI300X", torch.bfloat16, 1307e12),
    ],
)
def test_known_devices_are_recognized_by_name(name, dtype, peak):
    assert known_peak_flops(name, dtype) == peak


def test_an_unknown_device_has_no_known_peak():
    assert known_peak_flops("NVIDIA GeForce GTX 1060", torch.float32) is None


def test_the_flag_overrides_table_and_measurement():
    assert find_peak_flops(torch.device("cpu"), torch.float32, 5e12) == (5e12, "flag")


def test_a_cpu_is_measured():
    peak = measure_peak_flops(torch.device("cpu"), torch.float32, seconds=0)

    assert 1e8 < peak < 1e15
