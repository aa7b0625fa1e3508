"""Templates whose roles are plain text beside control tokens, in the shapes of models that are out there."""

from __future__ import annotations

from functools import cache

from chat_shapes import Shape, metaspace

OPENCHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + '<|end_of_turn|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
LLAMA2_SYS = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'].strip() + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first %}{{ system }}{% endif %}{{ message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' '  + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + ' ' }}"
    "{% set rest = messages[1:] %}{% else %}"
    "{{ 'A chat between a curious user and an artificial intelligence assistant. ' }}"
    "{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
ALPACA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}"
    "{% set rest = messages[1:] %}{% else %}"
    "{{ 'Below is an instruction. Write a response that appropriately completes the request.\n\n' }}"
    "{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '### Instruction:\n' + message['content'] | trim + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + message['content'] | trim + eos_token + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)


@cache
def plain_roles() -> tuple[Shape, ...]:
    """Four families more, for tests of what forges a role."""
    end = "<|end_of_turn|>"
    return (
        Shape("openchat", metaspace((end,), eos=end, template=OPENCHAT), True, end),
        Shape("llama2-sys", metaspace(template=LLAMA2_SYS), True, "</s>"),
        Shape("vicuna", metaspace(template=VICUNA), True, "</s>"),
        Shape("alpaca", metaspace(template=ALPACA), True, "</s>"),
    )
