"""Sample text from a checkpoint, with the tokenizer of its run.

python trainer/sample.py --start="def main(" --num_samples=3
python trainer/sample.py --run=run_20261129_163540 --which=best
"""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # `trainer` is not installed: it runs from here

from trainer.checkpoint import choose, layout, read
from trainer.checkpoint.run_files import runs_in
from trainer.console import to_null_device
from trainer.data.tokenizer import from_json
from trainer.distributed.ranks import choose_device
from trainer.flags import flag, parse
from trainer.model.gpt import GPT, GPTConfig


@dataclass(frozen=True)
class SampleConfig:
    """The flags of `sample.py`."""

    out_dir: str = flag("out", "model", "folder of the run")
    run: str | None = flag(
        None, "model", "run in it: its name or the name of its files; None: the one saved last"
    )
    which: Literal["latest", "best"] = flag(
        "latest", "model", "best: the one with the lowest val loss"
    )
    device: str = flag("auto", "model", "auto, cpu, cuda or cuda:N")
    start: str = flag("\n", "text", "beginning of the text")
    num_samples: int = flag(3, "text", "number of texts")
    max_new_tokens: int = flag(200, "text", "largest number of tokens in each")
    temperature: float = flag(0.8, "text", "below 1: less random; above 1: more random")
    top_k: int = flag(200, "text", "sample among the k most likely tokens; 0: among all")
    seed: int = flag(1337, "text", "of the random numbers")

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"--temperature={self.temperature}: must be positive")
        if self.num_samples < 1 or self.max_new_tokens < 1:
            raise ValueError("--num_samples and --max_new_tokens must be at least 1")
        if self.top_k < 0:
            raise ValueError(f"--top_k={self.top_k}: must be >= 0")


def main(argv: Sequence[str] | None = None) -> int:
    config = parse(
        SampleConfig, argv, prog="sample.py", description="Sample text from a checkpoint."
    )
    try:
        saved = read.load(find(Path(config.out_dir), config.run, config.which))
        device = choose_device(config.device, local_rank=0)
    except (ValueError, OSError) as error:
        print(f"sample.py: {error}", file=sys.stderr)
        return 1
    try:
        write(saved, device, config)
    except BrokenPipeError:  # the reader has exited
        to_null_device(sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def find(out_dir: Path, run: str | None, which: Literal["latest", "best"]) -> Path:
    """The checkpoint to sample from: of the run named `run`, or of the one that saved last.

    Raises:
        ValueError: there is no such run, or there are several.
    """
    if run is None:
        latest = layout.find(out_dir, "latest")
        folder = latest.resolve().parent if latest.exists() else out_dir
        return latest if which == "latest" else layout.find(folder, which)
    runs = runs_in(out_dir)
    matches = [files for files in runs if run == files.stem] or [
        files for files in runs if choose.is_named(files, run)
    ]
    if len(matches) == 1:
        return layout.find(matches[0].folder, which)
    problem = "ambiguous name" if matches else "no such run"
    raise ValueError(f"--run={run}: {problem}; runs in {out_dir}: {choose.listed(runs)}")


def write(saved: layout.State, device: torch.device, config: SampleConfig) -> None:
    """Print the texts."""
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
        print("-" * 15, flush=True)


if __name__ == "__main__":
    sys.exit(main())
