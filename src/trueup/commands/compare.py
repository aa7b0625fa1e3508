"""The command that compares methods."""

from __future__ import annotations

from pathlib import Path

from trueup.commands.options import AcceptChanged, FullDigests, OnCluster, Overrides, Workers, say


def compare(
    recipe: str,
    /,
    *overrides: Overrides,
    world: str = "",
    out: Path | None = None,
    workers: Workers = 2,
    cluster: OnCluster = "",
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
) -> None:
    """Compare methods on the same data, model, seeds and budget, and say what each gained and cost.

    Settings are chosen on development prompts at a seed of their own; the reported seeds and the test prompts
    take no part in that. Stop it at any moment; the same command goes on. `--methods.NAME.key.path VALUE`
    changes a setting, `--seeds "[1, 2]"` the seeds.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a comparison that comes with trueup: compare-quick, compare-lab,
        compare-own (for --world).
    world
        Your own prompts, judges and data: a world's YAML file. Without one, where the data come from.
    out
        The comparison's folder; `runs/NAME` otherwise.
    """
    from trueup.comparison.cluster import read_cluster

    where = read_cluster(cluster)
    from trueup.comparison.plan import read_comparison
    from trueup.runs.shipped import recipe_path, refuse_other_kind
    from trueup.settings.config import parse_overrides

    path = recipe_path(recipe)
    refuse_other_kind(path, needed="methods", other="stages", taken_by="run")
    given = dict(parse_overrides(list(overrides)).values)
    comparison = read_comparison(path, {**given, "world": world} if world else given)
    from trueup.comparison.outcome import markdown
    from trueup.comparison.run import compare_in
    from trueup.reports.comparison import PAGE
    from trueup.runs.unchanged import Terms

    folder = out or Path("runs") / comparison.name
    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    rows = compare_in(folder, comparison, workers=workers, cluster=where, say=say, terms=terms)
    say(markdown(rows), f"report: {folder / PAGE}")
