"""What is said of option names of other toolkits that no setting of ours stands for: where the thing is."""

from __future__ import annotations

from trueup.settings.translate import Answer

_SAID: tuple[tuple[str, dict[str, tuple[object, ...]]], ...] = (
    # Model
    (
        "float16 overflows in training: `--model.dtype bfloat16`, or float32",
        {"fp16": (False,)},
    ),
    (
        "`--model.dtype bfloat16` is the fast precision here",
        {"tf32": (False,)},
    ),
    (
        "a folder has one revision: download the one you mean and name its folder",
        {"model_revision": ()},
    ),
    (
        "code in model repositories stays off",
        {"trust_remote_code": (False,)},
    ),
    (
        "the tokenizer is the one in the model's folder, which is saved with what is trained",
        {"tokenizer_name_or_path": (), "tokenizer_name": (), "tokenizer": ()},
    ),
    (
        "prompts of turns always go through the template, plain text never",
        {"apply_chat_template": (True,)},
    ),
    (
        "put the template into the model's folder as chat_template.jinja",
        {"chat_template_path": ()},
    ),
    (
        "the packed forward pass chooses its own attention",
        {"attn_implementation": (), "flash_attention": (False,), "flash_attn": ("auto", False)},
    ),
    (
        "the reference is the model that the run starts from, kept frozen: `--model.path` names both; a "
        "reference apart from the start is not supported",
        {
            "ref_model_name_or_path": (),
            "ref_model": (),
            "ref_pretrain": (),
            "model_ref": (),
            "reference_model": (),
            "ref_model_path": (),
            "ref_adapter_name": (),
        },
    ),
    (
        "the reference stays as it is; a run from its last model takes that as its next",
        {"sync_ref_model": (False,)},
    ),
    (
        "reference log-probs are taken once a step, without gradient",
        {"precompute_ref_log_probs": (False,)},
    ),
    # Adapter
    (
        "a frozen base is held in 4 bits: `--model.lora.quantise nf4`",
        {"load_in_8bit": (False,)},
    ),
    (
        "whole modules beside an adapter are not trained; `--model.lora.targets` names what adapters sit on",
        {"lora_modules_to_save": (), "modules_to_save": (), "additional_target": ()},
    ),
    (
        "an adapter's folder is a model: `--model.path ADAPTER` starts from it, merged into its base",
        {"adapter_name_or_path": (), "lora_model_dir": ()},
    ),
    (
        "one learning rate holds for both matrices of an adapter: `--update.lr`",
        {"loraplus_lr_ratio": ()},
    ),
    # Data
    (
        "a configuration is written after the id: `--data.path NAME:CONFIG`",
        {"dataset_config": (), "dataset_config_name": ()},
    ),
    (
        "one file or data set is `--data.path`, several by name are `--data.mix.NAME`",
        {"datasets": ([],), "dataset_mixer": ([],)},
    ),
    (
        "`--data.path` names the file or folder itself",
        {"dataset_dir": ()},
    ),
    (
        "held-out rows are a share of the data's: `--data.held_out 0.05`; a file of its own is for `trueup "
        "eval`",
        {"dataset_test_split": (), "eval_dataset": (), "test_datasets": ()},
    ),
    (
        "`--data.max_tokens` bounds prompt and completion together",
        {"max_prompt_length": (), "prompt_max_len": ()},
    ),
    (
        "only completions are trained on",
        {"completion_only_loss": (True,)},
    ),
    (
        "prompts are never trained on; `--data.train_on all` supervises every assistant turn",
        {"train_on_inputs": (False,), "train_on_prompt": (False,), "roles_to_train": ()},
    ),
    (
        "rows are packed without padding, each attending to itself alone; `--loop.microbatch_tokens N` is "
        "what one forward pass holds",
        {
            "packing": (True,),
            "sample_packing": (True,),
            "padding_free": (True,),
            "packing_samples": (True,),
            "pad_to_sequence_len": (False,),
            "group_by_length": (False,),
        },
    ),
    (
        "rows are read and encoded in the run's own process",
        {
            "dataset_num_proc": (False,),
            "preprocessing_num_workers": (False,),
            "dataloader_num_workers": (0,),
        },
    ),
    (
        "encoded rows are kept by their content, so what is kept is never stale",
        {"overwrite_cache": (True, False)},
    ),
    (
        "columns that a format does not know are left alone",
        {"remove_unused_columns": (True, False)},
    ),
    (
        "`--seed` is the seed of everything, the order of the rows too",
        {"data_seed": ()},
    ),
    (
        "files are read row by row; there is nothing to turn on",
        {"streaming": (True, False)},
    ),
    # Loop
    (
        "`--loop.batch` is the groups of a whole step: rows a device x accumulation steps x devices; how it "
        "is cut is `--loop.microbatch_tokens`",
        {"gradient_accumulation_steps": (1,)},
    ),
    (
        "how much one forward pass holds is told in tokens, `--loop.microbatch_tokens N`; `--loop.batch` is "
        "the groups of a step",
        {
            "micro_batch_size": (),
            "micro_train_batch_size": (),
            "micro_rollout_batch_size": (),
            "per_device_eval_batch_size": (),
            "eval_batch_size": (),
        },
    ),
    (
        "memory is bounded by `--loop.microbatch_tokens N`, and by `--model.activation_checkpointing block`",
        {"activation_offloading": (False,)},
    ),
    (
        "episodes are steps x groups: `--loop.steps N --loop.batch GROUPS`",
        {"total_episodes": ()},
    ),
    (
        "passes over the prompts are `--loop.epochs N`, or `--loop.steps N` in all",
        {"num_episodes": ()},
    ),
    (
        "every step is written to metrics.jsonl; there is nothing to set",
        {"logging_steps": (), "logging_strategy": (), "logging_first_step": ()},
    ),
    (
        "held-out metrics come every `--loop.eval_every N` steps, checkpoints every `--loop.save_every N`",
        {
            "eval_strategy": (),
            "evaluation_strategy": (),
            "save_strategy": (),
            "evals_per_epoch": (),
            "saves_per_epoch": (),
        },
    ),
    (
        "`--loop.best eval/score` hands on the step where a number was highest; `--loop.guard` ends a run in "
        "time",
        {"load_best_model_at_end": (), "early_stopping_patience": ()},
    ),
    (
        "`--loop.best 'lowest eval/loss'` looks for the lowest",
        {"greater_is_better": ()},
    ),
    (
        "the run's folder is `--out DIR`; its model is in DIR/model",
        {"save_path": (), "ckpt_path": (), "run_name": ()},
    ),
    (
        "a finished run is never overwritten: give another `--out`, or remove the folder",
        {"overwrite_output_dir": (False,)},
    ),
    (
        "the same command goes on from the last checkpoint by itself",
        {"load_checkpoint": (True,)},
    ),
    (
        "`--loop.trackers '[wandb]'` turns the tracker on; WANDB_PROJECT and its kin name where it writes",
        {"use_wandb": (), "wandb_project": (), "wandb_run_name": ()},
    ),
    (
        "`trueup export RUN OUT --push-to-hub ID` sends a finished model there",
        {"push_to_hub": (False,), "hub_model_id": (False,)},
    ),
    (
        "the method is the word after `train`: `trueup train dpo`; `trueup methods` lists them",
        {"stage": (), "rl": (), "do_train": (True,)},
    ),
    (
        "each is a method: gae is ppo, rloo is rloo, group_norm is grpo, reinforce is reinforce",
        {"advantage_estimator": ()},
    ),
    (
        "`trueup train --devices N` trains on N devices, as `torchrun -m trueup train` does",
        {"num_processes": (), "nproc_per_node": (), "device_map": (), "local_rank": (), "ddp_timeout": ()},
    ),
    (
        "`--shard` with `--devices N`, or under torchrun, gives each device a part of the weights",
        {"deepspeed": (), "fsdp": (), "fsdp_config": (), "zero_stage": ()},
    ),
    (
        "no layer is cut over devices, no expert placed on one: `--devices N --shard` splits weights",
        {
            "tensor_parallel_size": (1,),
            "tensor_parallel": (1, False),
            "tp_size": (1,),
            "expert_parallel_size": (1,),
            "expert_parallel": (1, False),
            "ep_size": (1,),
            "pipeline_parallel_size": (1,),
            "pp_size": (1,),
            "context_parallel_size": (1,),
            "cp_size": (1,),
        },
    ),
    (
        "`--model.roles shared` holds all roles over one base",
        {"colocate_all_models": (False,)},
    ),
    (
        "logits are made in pieces: `--model.logits_budget_mib N`",
        {"use_liger_kernel": (False,)},
    ),
    (
        "the packed forward pass is not compiled",
        {"torch_compile": (False,)},
    ),
    (
        "noise on embeddings is not supported",
        {"neftune_noise_alpha": ()},
    ),
    # Update
    (
        "write both: `--update.betas '[0.9, 0.999]'`",
        {"adam_beta1": (), "adam_beta2": ()},
    ),
    (
        "warm-up is a share of the updates: `--update.warmup 0.05`",
        {"warmup_steps": (0,)},
    ),
    (
        "`--update.final 0.1` is where the rate ends, as a share of its peak",
        {"lr_scheduler_kwargs": ({},)},
    ),
    (
        "every method steps by AdamW (TRPO's policy by a trust region); its numbers are under `--update.`",
        {
            "optim": ("adamw", "adamw_torch", "adamw_torch_fused"),
            "optimizer": ("adamw", "adamw_torch", "adamw_torch_fused"),
        },
    ),
    # Sampling
    (
        "completions are drawn from the model itself, or their log-probs would be another's",
        {"repetition_penalty": (1, 1.0)},
    ),
    (
        "`--decoding.top_p` and `--decoding.top_k` narrow what is drawn",
        {"min_p": (0, 0.0)},
    ),
    (
        "a completion ends where the model's template ends a turn",
        {"stop_token": ()},
    ),
    (
        "completions are sampled in the run's own process; there is no engine to set up",
        {"use_vllm": (), "vllm_mode": (), "vllm_num_engines": (), "vllm_gpu_memory_utilization": ()},
    ),
    # Rewards and reinforcement
    (
        "a weighted sum of judges is a YAML file, `--judge weights.yaml`; docs/judges.md shows one",
        {"reward_weights": ()},
    ),
    (
        "`--minibatch N` is the groups of one update",
        {"num_mini_batches": ()},
    ),
    (
        "a penalty of 1 is -1 here: `missing_eos`, of some methods `algorithm.missing_eos`",
        {"missing_eos_penalty": ()},
    ),
    (
        "the ratio of a whole completion is the method gspo",
        {"importance_sampling_level": ("token",)},
    ),
    (
        "`alpha` is one minus it: alpha towards 0 is the reverse KL",
        {"f_alpha_divergence_coef": ()},
    ),
    (
        "samples.jsonl holds a few held-out completions of the first and the last evaluations",
        {"num_sample_generations": ()},
    ),
    (
        "a step samples once and learns `--epochs_per_step N` times from it",
        {"steps_per_generation": ()},
    ),
    # Preferences and distillation
    (
        "`--data_share` is the other share: 1 - lmbda",
        {"lmbda": ()},
    ),
    (
        "`--completions teacher` distils what the teacher writes",
        {"seq_kd": (False,)},
    ),
)
"Each sentence, and the names that it answers with the values that change nothing, so that they may be given."
ANSWERS = {n: Answer(says, unless) for says, names in _SAID for n, unless in names.items()}
