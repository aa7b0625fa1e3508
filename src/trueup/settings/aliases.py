"""The ecosystem's option names, for people who type from memory; `docs/option-names.md` lists them."""

from __future__ import annotations

from trueup.settings.config import Alias

ALIASES: dict[str, str | Alias] = {
    "model_name_or_path": "model.path",
    "dataset_name": "data.path",
    "train_file": "data.path",
    "max_length": "data.max_tokens",
    "learning_rate": "update.lr",
    "lr": "update.lr",
    "lr_scheduler_type": "update.schedule",
    "warmup_ratio": "update.warmup",
    "weight_decay": "update.weight_decay",
    "max_grad_norm": "update.max_grad_norm",
    "adam_epsilon": "update.eps",
    "num_train_epochs": "loop.epochs",
    "max_steps": "loop.steps",
    "per_device_train_batch_size": "loop.batch",
    "train_batch_size": "loop.batch",
    "save_steps": "loop.save_every",
    "eval_steps": "loop.eval_every",
    "save_total_limit": "loop.keep_last",
    "metric_for_best_model": "loop.best",
    "report_to": Alias(
        "loop.trackers",
        {
            "none": [],
            "tensorboard": ["tensorboard"],
            "wandb": ["wandb"],
            "trackio": ["trackio"],
            "mlflow": ["mlflow"],
        },
    ),
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "torch_dtype": "model.dtype",
    "bf16": Alias("model.dtype", {True: "bfloat16", False: "float32"}),
    "temperature": "decoding.temperature",
    "max_new_tokens": "decoding.max_new_tokens",
    "num_generations": "num_completions",
    "reward_model_path": "judge",
    "kl_coef": "algorithm.beta",
    "cliprange": "algorithm.clip",
    "vf_coef": "algorithm.value_coefficient",
    "num_ppo_epochs": "epochs_per_step",
}
