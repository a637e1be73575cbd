"""Text from a checkpoint, with the tokenizer that the run was prepared with.

python trainer/sample.py --start="def main(" --num_samples=3
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from trainer import checkpoint
from trainer.flags import flag, parse
from trainer.model import GPT, GPTConfig
from trainer.ranks import choose_device
from trainer.tokenizer import from_json


@dataclass(frozen=True)
class SampleConfig:
    """What to sample, from where, and how boldly."""

    out_dir: str = flag("out", "model", "folder of the run")
    which: Literal["latest", "best"] = flag("latest", "model", "best: of the lowest val loss")
    device: str = flag("auto", "model", "auto, cpu, cuda or cuda:N")
    start: str = flag("\n", "text", "what the text begins with")
    num_samples: int = flag(3, "text", "texts to write")
    max_new_tokens: int = flag(200, "text", "tokens in each, at most")
    temperature: float = flag(0.8, "text", "below 1 is surer, above 1 is wilder")
    top_k: int = flag(200, "text", "choose among the k likeliest tokens; 0: among all")
    seed: int = flag(1337, "text", "another seed, another text")

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"--temperature={self.temperature}: it must be positive")
        if self.num_samples < 1 or self.max_new_tokens < 1:
            raise ValueError("--num_samples and --max_new_tokens must be at least 1")
        if self.top_k < 0:
            raise ValueError(f"--top_k={self.top_k}: it cannot be negative")


def main(argv: Sequence[str] | None = None) -> int:
    config = parse(SampleConfig, argv, prog="sample.py", description="Text from a checkpoint.")
    try:
        saved = checkpoint.load(checkpoint.find(Path(config.out_dir), config.which))
        device = choose_device(config.device, local_rank=0)
    except ValueError as mistake:
        print(f"sample.py: {mistake}", file=sys.stderr)
        return 1
    tokenizer = from_json(saved["tokenizer"])
    model = GPT(GPTConfig(**saved["model_args"])).to(device)
    model.load_state_dict(saved["model"])
    model.eval()

    torch.manual_seed(config.seed)
    prompt = tokenizer.encode(config.start, allowed_special="all")
    for _ in range(config.num_samples):
        idx = torch.tensor([prompt], device=device)  # (1, T)
        written = model.generate(
            idx,
            config.max_new_tokens,
            temperature=config.temperature,
            top_k=config.top_k or None,
            n_tokens=tokenizer.n_vocab,
        )
        print(tokenizer.decode(written[0].tolist()))
        print("-" * 15)
    return 0


if __name__ == "__main__":
    sys.exit(main())
