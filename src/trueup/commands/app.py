"""The commands by their names: each is a function in this room, with its help."""

from __future__ import annotations

from cyclopts import App

from trueup.commands import (
    battle,
    behaviour,
    collect,
    compare,
    data,
    doctor,
    evaluate,
    explain,
    judge,
    lab,
    look,
    measure,
    models,
    plan,
    programs,
    rank,
    reproduce,
    serve,
    soup,
    train,
    watch,
)

app = App(
    name="trueup",
    help="""True up a language model: align it by any method, and know what it cost.

    Start with `trueup demo`: it aligns a small model in minutes, on a CPU, with nothing to download, and
    writes a report. Then `trueup methods`, `trueup init sft`, `trueup train FILE`.
    """,
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # `trueup.cli` says what a stopped command has saved
)
app.command(train.demo)
app.command(train.train)
app.command(train.run)
app.command(compare.compare)
app.command(measure.measure)
app.command(look.init)
app.command(look.config)
app.command(look.preview)
app.command(plan.plan)
app.command(look.methods)
app.command(look.show)
app.command(look.cite)
app.command(look.report)
app.command(watch.watch)
app.command(explain.explain)
app.command(judge.judge)
app.command(battle.battle)
app.command(collect.app)
app.command(rank.rank)
app.command(reproduce.reproduce)
app.command(evaluate.evaluate, name="eval")
app.command(behaviour.toxicity)
app.command(behaviour.refusals)
app.command(behaviour.summaries)
app.command(programs.programs)
app.command(programs.sandbox)
app.command(models.chat)
app.command(models.generate)
app.command(serve.serve)
app.command(models.export)
app.command(soup.soup)
app.command(doctor.doctor)
app.command(data.app)
app.command(lab.app)
