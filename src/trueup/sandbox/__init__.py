"""Runs programs that a model wrote, with nothing in reach: no files, no network, no processes.

`backends` puts a process out of reach of the machine, `seal` closes it, `inside` is what runs in it, `plain`
is what may cross its border, `cell` starts, bounds and ends it from outside, `probes` tries to break out,
`trust` lets nothing run before they all failed, `verdicts` judges programs by their tests. docs/sandbox.md
says what is not protected.
"""
