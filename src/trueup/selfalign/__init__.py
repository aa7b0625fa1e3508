"""SELF-ALIGN: a base model aligned by a page of principles and a few examples (Sun et al. 2023).

`supervision` reads what people wrote, `instruct` lets the model write tasks, `asking` has them answered,
`thoughts` takes an answer by the principles apart, `filters` says which are kept, `rouge` how alike two are.
"""
