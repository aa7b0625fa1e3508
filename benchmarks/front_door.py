"""CPU seconds until trueup has answered: help, mistakes, and `generate` beside five lines of transformers.

python -m benchmarks.front_door                a random model with a vocabulary of 150,000
python -m benchmarks.front_door --model FOLDER that model
python -m benchmarks.front_door --json         the numbers alone

Every figure is the user and system time of a whole child process. The two ways to generate take turns, with
the same dtype, prompt, greedy decoding, number of new tokens and threads, and have to say the same; the first
turn of each, which reads files into the page cache, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
PROMPT = "What is the capital of France?"
SCRIPT = """
import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; path, text, tokens = sys.argv[1:]
tokenizer, load = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained
asked = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True,
                                      return_tensors="pt", return_dict=True)
out = load(path, dtype="float32").generate(**asked, do_sample=False, max_new_tokens=int(tokens))
print(tokenizer.decode(out[0, asked["input_ids"].shape[1]:], skip_special_tokens=True))
"""
"The same as `trueup generate`, in five lines of transformers."
TRUEUP = ("-m", "trueup.cli")
COMMANDS: dict[str, tuple[str, ...]] = {
    "import trueup": ("-c", "import trueup"),
    "trueup --help": (*TRUEUP, "--help"),
    "trueup generate --help": (*TRUEUP, "generate", "--help"),
    "trueup show dpo": (*TRUEUP, "show", "dpo"),
    "trueup methods": (*TRUEUP, "methods"),
    "trueup train nowhere.yaml": (*TRUEUP, "train", "nowhere.yaml"),
    "trueup train dpo --model.path ./nowhere": (*TRUEUP, "train", "dpo", "--model.path", "./nowhere"),
    "trueup train dpo --data.path nowhere.jsonl": (*TRUEUP, "train", "dpo", "--data.path", "nowhere.jsonl"),
    "trueup train dpo --data.pth x.jsonl": (*TRUEUP, "train", "dpo", "--data.pth", "x.jsonl"),
    "trueup generate ./nowhere hi": (*TRUEUP, "generate", "./nowhere", "hi"),
    "trueup chat ./nowhere": (*TRUEUP, "chat", "./nowhere"),
    "trueup eval ./nowhere": (*TRUEUP, "eval", "./nowhere"),
    "trueup soup ./nowhere ./there --out x": (*TRUEUP, "soup", "./nowhere", "./there", "--out", "x"),
    "trueup judge nowhere.jsonl x --by lm:./it": (*TRUEUP, "judge", "nowhere.jsonl", "x", "--by", "lm:./it"),
    "trueup rank nowhere.jsonl": (*TRUEUP, "rank", "nowhere.jsonl"),
    "trueup compare nowhere": (*TRUEUP, "compare", "nowhere"),
    "trueup report nowhere": (*TRUEUP, "report", "nowhere"),
    "trueup export nowhere x": (*TRUEUP, "export", "nowhere", "x"),
}


def spend(arguments: Sequence[str], folder: Path) -> tuple[float, str]:
    """The CPU seconds of a Python process run in a folder, and what it printed."""
    environment = {**os.environ, **THREADS, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(
            [sys.executable, *arguments], stdout=out, stderr=subprocess.DEVNULL, cwd=folder, env=environment
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return used.ru_utime + used.ru_stime, out.read()


def answer_times(rounds: int) -> dict[str, float]:
    """The least CPU seconds of each command over some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        spent = [
            [spend(arguments, Path(folder))[0] for arguments in COMMANDS.values()] for _ in range(rounds)
        ]
    return {name: min(times) for name, times in zip(COMMANDS, zip(*spent, strict=True), strict=True)}


def generate_times(model: Path, rounds: int, tokens: int) -> dict[str, Any]:
    """The CPU seconds of both ways to generate, round for round, their medians, and the ratio of these."""
    asked = (str(model.resolve()), PROMPT)
    ours = (*TRUEUP, "generate", *asked, "--temperature", "0", "--max-new-tokens", str(tokens))
    theirs = ("-c", SCRIPT, *asked, str(tokens))
    times: dict[str, list[float]] = {"trueup": [], "transformers": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            said = {}
            for name, arguments in (("transformers", theirs), ("trueup", ours)):
                seconds, said[name] = spend(arguments, Path(folder))
                times[name] += [seconds] if number else []
            (completion,) = json.loads(said["trueup"])["completions"]
            if completion.strip() != said["transformers"].strip():
                raise SystemExit(f"they say different things: {said}")
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    return {"rounds": times, "median": medians, "ratio": medians["trueup"] / medians["transformers"]}


def random_model(folder: Path, vocabulary: int, seed: int) -> Path:
    """The folder of a Llama of two narrow layers with random weights, and a BPE of so many tokens."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    known = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    letters, merges = [token for token in known if token.isascii() and token.isalpha()], []
    words = list(letters)
    for word in words:  # Grows as it is read: every word, with each letter after it.
        for letter in letters:
            if len(known) < vocabulary - 2:
                known[word + letter] = len(known)
                merges.append((word, letter))
                words.append(word + letter)
        if len(known) == vocabulary - 2:
            break
    raw = Tokenizer(models.BPE(known, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def machine() -> dict[str, str]:
    """What the numbers depend on besides the code."""
    packages = ("torch", "transformers", "tokenizers", "peft", "cyclopts")
    versions = {name: metadata.version(name) for name in packages}
    return {"cores": str(os.cpu_count()), "python": platform.python_version(), **versions}


def main(arguments: Sequence[str] | None = None) -> None:
    """Nothing; prints what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model's folder, in place of a random one")
    parser.add_argument("--vocabulary", type=int, default=150_000, help="tokens of the random model")
    parser.add_argument("--tokens", type=int, default=16, help="most new tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the random model's weights")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or random_model(Path(folder), given.vocabulary, given.seed)
        found = {
            "machine": machine(),
            "answers": answer_times(given.rounds),
            "generate": generate_times(model, given.rounds, given.tokens),
        }
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, seconds in found["answers"].items():
        print(f"{seconds:6.2f} s  {name}")
    for name, seconds in found["generate"]["median"].items():
        print(f"{seconds:6.2f} s  {name}, median of {given.rounds}")
    print(f"{found['generate']['ratio']:6.2f}    ratio")


if __name__ == "__main__":
    main()
