"""Makes the golden files of other loggers again, with these loggers, in another folder.

    python tests/tools/golden/make.py tensorboard FOLDER    (torch, tensorboard)
    python tests/tools/golden/make.py wandb FOLDER          (wandb)
    python tests/tools/golden/make.py hf FOLDER             (torch, transformers, accelerate)
    python tests/tools/golden/make.py lightning FOLDER      (torch, lightning)

`loss` and `other` are what the TensorBoard and W&B files hold, so that a test can say it too.
"""

import math
import sys
from pathlib import Path

STARTED_S = 1_700_000_000.25


def loss(i: int, take: int = 1) -> float:
    """A training loss with a NaN and an infinity in it; another one in the second take."""
    return {4: math.nan, 5: -math.inf}.get(i, 10 / (i + 3) + take / 7)


def other(i: int) -> float:
    return math.sqrt(i + 2)


def make_tensorboard(folder: Path) -> None:
    """As in the training logging guide; then a restart that takes 10 and 11 again."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    for i in range(12):
        writer.add_scalar("Loss/train", loss(i), i, walltime=STARTED_S + i)
        if i > 1:
            writer.add_scalar("MFU", other(i), i, walltime=STARTED_S + i)
    for i in (0, 5, 10):
        writer.add_scalar("Loss/val", other(i), i, walltime=STARTED_S + 100 + i)
    writer.close()
    writer = SummaryWriter(str(folder), purge_step=10)
    for i in (10, 11, 12):
        writer.add_scalar("Loss/train", loss(i, take=2), i, walltime=STARTED_S + 200 + i)
    writer.add_scalar("double", 0.1, 12, new_style=True, double_precision=True)
    writer.add_text("words", "no number", 12)
    writer.close()


def make_wandb(folder: Path) -> None:
    """nanoGPT's names, as the trainer logs them; W&B's step is not the iteration."""
    import wandb

    settings = wandb.Settings(
        console="off", disable_code=True, disable_git=True, silent=True, host="host",
        x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True,
        x_save_requirements=False,
    )  # fmt: skip
    run = wandb.init(
        project="demo", id="golden01", name="golden run", mode="offline", dir=str(folder),
        config={"lr": 3e-4, "net": {"n_layer": 2}, "betas": [0.9, 0.95]}, settings=settings,
    )  # fmt: skip
    for i in range(12):
        row = {"iter": 10 * i, "train/iter_loss": loss(i), "time_ms": other(i)}
        if i % 5 == 0:
            row |= {"train/loss": other(i + 1), "val/loss": other(i + 2)}
        if i == 7:
            row["words"] = "no number"
        run.log(row | {"_timestamp": STARTED_S + i})
    run.finish()


def make_hf(folder: Path) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x, labels):
            y = self.layer(x).squeeze(-1)
            return {"loss": ((y - labels) ** 2).mean(), "logits": y}

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, i):
            x = torch.randn(4, generator=torch.Generator().manual_seed(i))
            return {"x": x, "labels": x.sum()}

    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=20, logging_steps=1, eval_strategy="steps",
        eval_steps=5, save_steps=10, per_device_train_batch_size=8, report_to=[], use_cpu=True,
        disable_tqdm=True, seed=1,
    )  # fmt: skip
    trainer = Trainer(model=Model(), args=arguments, train_dataset=Data(), eval_dataset=Data())
    trainer.train()
    trainer.save_state()


def make_lightning(folder: Path) -> None:
    import lightning
    import torch
    from lightning.pytorch.loggers import CSVLogger

    class Model(lightning.LightningModule):
        def __init__(self, lr: float = 0.02) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def loss(self, batch):
            x, y = batch
            return ((self.layer(x).squeeze(-1) - y) ** 2).mean()

        def training_step(self, batch, i):
            value = self.loss(batch)
            self.log("train_loss", value, on_step=True, on_epoch=True)
            self.log("nan_metric", math.nan)
            return value

        def validation_step(self, batch, i) -> None:
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1)), batch_size=8)
    trainer = lightning.Trainer(
        max_epochs=3, logger=CSVLogger(str(folder), "demo"), log_every_n_steps=2,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Model(), data, data)


if __name__ == "__main__":
    makers = {
        "tensorboard": make_tensorboard, "wandb": make_wandb,
        "hf": make_hf, "lightning": make_lightning,
    }  # fmt: skip
    makers[sys.argv[1]](Path(sys.argv[2]))
