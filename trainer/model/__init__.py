"""The GPT.

Begin with `gpt`. `fused` has LayerNorm and loss as one operation each, `kernels` their Triton
kernels, `flops` what an iteration computes, for MFU.
"""
