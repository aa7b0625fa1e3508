"""Jobs on clusters: Slurm by commands that a test plays, Ray where it is installed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import fake_slurm
import trueup
from trueup.cli import main
from trueup.comparison import engine, slurm
from trueup.comparison.cluster import Cluster, read_cluster
from trueup.comparison.engine import LocalProcesses
from trueup.comparison.on_ray import OnRay
from trueup.comparison.plan import Candidate, Job
from trueup.comparison.slurm import Slurm
from trueup.errors import TrueupError
from trueup.runs.recipe import Recipe

WORKER = """#!/bin/bash
# In the place of Python: the jobs' stages are files; DIES, SAVES, FAILS and WAITS say what goes wrong.
recipe=$3 folder=$4 ended=${5#ended:}
name=$(basename "$recipe" .yaml)
echo "$name" >> "$folder/began"
echo "$name at work"
times=$(grep -c -x "$name" "$folder/began")
trap 'echo 75 > "$ended"; exit 75' TERM
while [ -e "$folder/$name.waits" ]; do sleep 0.05; done
if [ -e "$folder/$name.dies" ] && [ "$times" -le "$(cat "$folder/$name.dies")" ]; then kill -9 $$; fi
if [ -e "$folder/$name.saves" ] && [ "$times" = 1 ]; then echo 75 > "$ended"; exit 75; fi
if [ -e "$folder/$name.fails" ]; then echo "error E901 no number"; echo 65 > "$ended"; exit 65; fi
for stage in $(cat "$folder/$name.stages"); do
    [ -e "$folder/$stage/DONE.json" ] && continue
    mkdir "$folder/$stage" || exit 9
    sleep 0.1
    touch "$folder/$stage/DONE.json"
done
echo 0 > "$ended"
"""


def job_of(name: str, stages: Mapping[str, object] | None = None) -> Job:
    recipe = Recipe(name=name, stages=stages or {})  # pyright: ignore[reportArgumentType]
    return Job(name=name, candidate=Candidate(method=name, label="", settings={}), seed=0, recipe=recipe)


def quick(**given: object) -> Slurm:
    """An engine that looks often and waits for no network."""
    return Slurm(**{"workers": 4, "look_every": 0.05, "patience": 0.1, "every": 0.02, **given})  # pyright: ignore[reportArgumentType]


class Played:
    """A folder of jobs, whose stages are files, and a Slurm that this machine plays."""

    def __init__(self, tmp_path: Path) -> None:
        self.slurm = fake_slurm.install(tmp_path / "bin")
        self.folder = tmp_path / "runs of 100 % mine"
        self.folder.mkdir()

    def jobs(self, needs: Mapping[str, Sequence[str]]) -> list[Job]:
        for name, stages in needs.items():
            (self.folder / f"{name}.stages").write_text(" ".join(stages))
        return [job_of(name) for name in needs]

    def say(self, what: str, text: str = "") -> None:
        (self.folder / what).write_text(text)

    def began(self) -> Counter[str]:
        path = self.folder / "began"
        return Counter(path.read_text().split() if path.exists() else ())

    def arrays(self) -> list[str]:
        """The jobs of each array that was submitted, in order."""
        found = sorted((self.folder / "slurm").glob("*/job.sh"))
        lines = [next(line for line in p.read_text().splitlines() if "names=(" in line) for p in found]
        return [line.removeprefix("names=(").removesuffix(")") for line in lines]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played(tmp_path)

    def planned(recipe: Recipe, folder: Path) -> list[SimpleNamespace]:
        stages = (found.folder / f"{recipe.name}.stages").read_text().split()
        return [SimpleNamespace(folder=found.folder / stage, done=False) for stage in stages]

    worker = tmp_path / "worker"
    worker.write_text(WORKER)
    worker.chmod(0o755)
    monkeypatch.setattr(engine, "plan", planned)
    monkeypatch.setattr(slurm.sys, "executable", str(worker))
    monkeypatch.setenv("PATH", f"{found.slurm}:{os.environ['PATH']}")
    return found


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_what_dies_or_is_told_to_save_is_submitted_again_and_nothing_is_made_twice(played: Played) -> None:
    """`b` shares `a`'s start and waits for it; `a` is killed once, `c` saved before its time was over."""
    jobs = played.jobs({"a": ["sft", "dpo"], "b": ["sft", "ppo"], "c": ["base"], "d": ["other"]})
    played.say("a.dies", "1")
    played.say("c.saves")
    played.say("d.fails")
    ended = {job.name: code for job, code in quick(options=("--partition=p",)).run(jobs, played.folder)}
    assert ended == {"a": 0, "b": 0, "c": 0, "d": 65}
    assert played.began() == {"a": 2, "b": 1, "c": 2, "d": 1}
    assert played.arrays()[0] == "a c d", "one array of all that need not wait"
    for call in fake_slurm.calls(played.slurm, "sbatch"):
        assert "--partition=p" in call
    assert (played.folder / "logs/d.log").read_text().splitlines()[-1] == "error E901 no number"
    assert "gone: OUT_OF_MEMORY" in (played.folder / "logs/a.log").read_text()


def test_a_task_that_dies_every_time_is_given_up_with_its_reason(played: Played) -> None:
    jobs = played.jobs({"a": ["sft"]})
    played.say("a.dies", "99")
    said: list[str] = []
    failed = engine.run_all(jobs, played.folder, quick(), say=said.append, stop_requested=lambda: "")
    assert played.began() == {"a": 1 + slurm.LOSSES}
    assert failed["a"].endswith("is gone: OUT_OF_MEMORY") and failed["a"] in said[-1]


def test_no_more_tasks_than_workers(played: Played) -> None:
    jobs = played.jobs({"a": ["sft"], "b": ["ppo"], "c": ["base"]})
    assert len(list(quick(workers=2).run(jobs, played.folder))) == 3
    assert played.arrays()[0] == "a b" and sorted(" ".join(played.arrays()).split()) == ["a", "b", "c"]


def test_what_is_in_the_queue_of_before_is_waited_for(played: Played) -> None:
    """Whoever submitted was killed. Meanwhile the controller is down: nobody is taken for dead."""
    jobs = played.jobs({"a": ["sft"]})
    played.say("a.waits")
    place = slurm._Queue(quick(), played.folder)
    place.start(jobs)
    until(lambda: played.began() == {"a": 1})
    (played.slurm / "state" / "down").touch()
    with pytest.raises(TrueupError, match=r"E786.*whether a task of before still runs"):
        list(quick().run(jobs, played.folder))
    (played.slurm / "state" / "down").unlink()

    def later() -> None:
        time.sleep(0.3)
        (played.slurm / "state" / "down").touch()
        time.sleep(0.4)
        (played.folder / "a.waits").unlink()

    helper = threading.Thread(target=later)
    helper.start()
    assert [code for _, code in quick().run(jobs, played.folder)] == [0]
    helper.join()
    assert played.began() == {"a": 1} and len(played.arrays()) == 1


def test_a_stop_empties_the_queue_and_lets_running_tasks_save(played: Played) -> None:
    jobs = played.jobs({"a": ["sft"], "b": ["ppo"], "c": ["base"]})
    played.say("a.waits")
    stop = threading.Event()

    def later() -> None:
        until(lambda: played.began() == {"a": 1})
        (played.slurm / "state" / "full").touch()
        time.sleep(0.2)
        stop.set()

    helper = threading.Thread(target=later)
    helper.start()
    asked = quick(workers=1, stop_requested=lambda: "SIGTERM" if stop.is_set() else "")
    assert [(job.name, code) for job, code in asked.run(jobs, played.folder)] == [("a", 75)]
    helper.join()
    assert played.began() == {"a": 1}


def test_what_waits_in_the_queue_leaves_it_at_a_stop(played: Played) -> None:
    jobs = played.jobs({"a": ["sft"]})
    (played.slurm / "state" / "full").touch()
    asked = quick(stop_requested=lambda: "SIGINT" if played.arrays() else "")
    assert [code for _, code in asked.run(jobs, played.folder)] == [75]
    assert played.began() == {} and fake_slurm.calls(played.slurm, "squeue")


def test_an_sbatch_that_refuses_is_quoted(played: Played) -> None:
    jobs = played.jobs({"a": ["sft"]})
    with pytest.raises(TrueupError, match=r"E786.*invalid partition specified: closed"):
        list(quick(options=("--partition=closed",)).run(jobs, played.folder))


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: Played) -> None:
    jobs = played.jobs({"a": ["sft"]})
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(TrueupError, match=r"E786.*no sbatch"):
        list(quick().run(jobs, played.folder))


def test_what_a_cluster_may_be_called() -> None:
    assert read_cluster("") == Cluster()
    assert read_cluster("slurm").options == ()
    said = read_cluster("slurm:--partition=gpu --gres=gpu:1 --comment 'of mine'")
    assert said.options == ("--partition=gpu", "--gres=gpu:1", "--comment", "of mine")
    local = read_cluster("ray:local")
    assert (local.kind, local.address, local.cpus, local.gpus) == ("ray", "local", None, None)
    far = read_cluster("ray:head:6379 --cpus 4 --gpus=0.5")
    assert (far.address, far.cpus, far.gpus) == ("head:6379", 4.0, 0.5)
    assert read_cluster("ray:ray://head:10001").address == "ray://head:10001"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("k8s", "'k8s' is no kind of cluster"),
        ("head:6379", "'head' is no kind of cluster"),
        ("slurm:gpu", "'gpu' is no option of sbatch"),
        ("slurm:--comment 'half", "cannot be told apart"),
        ("ray", "names no address"),
        ("ray:--cpus 4", "names no address"),
        ("ray:auto --memory 4", "'--memory' is neither"),
        ("ray:auto --cpus many", "--cpus 'many' is no number"),
        ("ray:auto --cpus", "--cpus '' is no number"),
        ("ray:auto --gpus -1", "--gpus -1 is no amount"),
    ],
)
def test_what_it_may_not_be_called(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Said by both commands and by Python, before anything is run."""
    for command in ("compare compare-quick", "reproduce kl-directions"):
        assert main([*command.split(), "--cluster", text]) == 64
        assert reason in (said := capsys.readouterr().err) and said.startswith("error E785")
    with pytest.raises(TrueupError, match="E785"):
        trueup.compare("compare-quick", cluster=text)
    with pytest.raises(TrueupError, match="E785"):
        trueup.reproduce("kl-directions", cluster=text)


STAGES = {
    "sft": {
        "model": {"path": "my-model"},
        "data": {"path": "demos.jsonl", "held_out": 0},
        "loop": {"steps": 40, "batch": 2, "save_every": 5},
    }
}


def stages_of(rate: float) -> dict[str, object]:
    return {"sft": {**STAGES["sft"], "update": {"lr": rate}}}


def made(folder: Path) -> dict[str, bytes]:
    """The bytes of every stage's model and of what was logged."""
    kept = (*folder.glob("stages/*/model/*.safetensors"), *folder.glob("stages/*/metrics.jsonl"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept)}


@pytest.mark.slow  # each job loads torch
def test_slurms_arrays_make_the_very_bytes_of_local_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task is killed after its first checkpoint, and goes on from there."""
    import small_world

    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{fake_slurm.install(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(trueup.__file__).parents[1]))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    jobs = [job_of(f"rate-{rate}", stages_of(rate)) for rate in (1e-3, 2e-3)]
    assert [code for _, code in LocalProcesses(1).run(jobs, Path("here"))] == [0, 0]
    killer = threading.Thread(target=kill_first, args=(tmp_path,), daemon=True)
    killer.start()
    ended = list(quick(workers=2, look_every=0.5).run(jobs, Path("there")))
    killer.join()
    assert [code for _, code in ended] == [0, 0]
    assert made(tmp_path / "here") == made(tmp_path / "there") and len(made(tmp_path / "there")) == 4
    assert len(fake_slurm.calls(tmp_path / "bin", "sbatch")) == 2, "the killed one was submitted again"


def kill_first(folder: Path) -> None:
    """Kills a task that has saved."""
    until(lambda: list(folder.glob("there/stages/*/checkpoints/step-*")))
    pid = int((folder / "bin" / "state" / "100_0").read_text())
    os.kill(pid, 9)


@pytest.mark.slow  # a cluster of Ray's takes seconds to come up
def test_two_workers_of_ray_make_the_very_bytes_of_one_process_and_a_killed_one_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="pip install 'trueup[ray]'")
    import small_world

    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(trueup.__file__).parents[1]))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    jobs = [job_of(f"rate-{rate}", stages_of(rate)) for rate in (1e-3, 2e-3)]
    assert [code for _, code in LocalProcesses(1).run(jobs, Path("here"))] == [0, 0]
    killed: list[int] = []

    def kill_a_worker() -> None:
        until(lambda: [p for p in processes() if f"there/jobs/{jobs[0].name}.yaml" in command(p)])
        until(lambda: list(tmp_path.glob("there/stages/*/checkpoints/step-*")))
        (job,) = [p for p in processes() if f"there/jobs/{jobs[0].name}.yaml" in command(p)]
        killed.append(parent(job))
        os.kill(parent(job), 9)

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    ended = list(OnRay(2).run(jobs, Path("there")))
    killer.join()
    assert killed and [code for _, code in ended] == [0, 0]
    assert made(tmp_path / "here") == made(tmp_path / "there") and len(made(tmp_path / "there")) == 4
    assert "Ray's worker is gone" in (tmp_path / "there/logs" / f"{jobs[0].name}.log").read_text()


@pytest.mark.slow  # a cluster of Ray's takes seconds to come up
def test_a_stop_reaches_a_job_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves and ends after the update under way, of 100,000."""
    pytest.importorskip("ray", reason="pip install 'trueup[ray]'")
    import small_world

    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(trueup.__file__).parents[1]))
    stages = {"sft": {**STAGES["sft"], "loop": {"steps": 100_000, "batch": 2, "save_every": 5}}}

    def stop() -> str:
        return "SIGINT" if list(tmp_path.glob("there/stages/*/checkpoints/step-*")) else ""

    ended = list(OnRay(1, stop).run([job_of("long", stages)], Path("there")))
    assert [code for _, code in ended] == [75]
    (metrics,) = tmp_path.glob("there/stages/*/metrics.jsonl")
    assert 5 <= len(metrics.read_text().splitlines()) < 100_000


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_ray_that_is_not_there_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrueupError, match=r"E787.*trueup\[ray\]"):
        list(OnRay(2).run([job_of("a")], tmp_path))
    assert list(OnRay(2).run([], tmp_path)) == [], "nothing to do needs no cluster"
