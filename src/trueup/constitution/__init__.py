"""Constitutional AI: principles in a file, by which a model corrects its own answers and compares them.

`principles` reads a constitution, `revision` walks a prompt through critiques and revisions, `comparison`
labels pairs by what a model says of them, `journal` keeps rows as they come. None of them needs torch.
"""
