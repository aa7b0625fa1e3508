"""The front door for Python: each command a function of its name, on paths and on objects.

`trueup.__all__` is the public surface; these modules are where its names live. The functions are thin: they
turn objects into what settings can say (`given`), call what the commands call, and wrap what comes back.
"""
