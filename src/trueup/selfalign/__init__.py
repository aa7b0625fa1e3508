"""SELF-ALIGN: a base model aligned by a page of principles and a few examples (Sun et al. 2023).

`supervision` reads what people wrote, `instruct` lets the model write tasks, `thoughts` lets it answer them
by the principles, `filters` says which answers are kept, `rouge` how alike two texts are.
"""
