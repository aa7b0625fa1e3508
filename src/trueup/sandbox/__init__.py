"""Runs programs that a model wrote, with nothing in reach: no files, no network, no processes.

`seal` closes a process, `inside` is what runs in it, `plain` is what may cross its border, `cell` starts,
bounds and ends it from outside, `probes` tries to break out. docs/sandbox.md says what is not protected.
"""
