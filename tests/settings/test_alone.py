"""Settings told without torch are those of the methods themselves."""

from __future__ import annotations

from trueup.settings import discover
from trueup.settings.alone import settings_alone
from trueup.settings.schema import commented_yaml, describe


def test_every_methods_settings_are_those_of_its_module() -> None:
    """Names, types, defaults and help; and what a learning rate is taken from."""
    told = 0
    for package in discover.PLACES:
        for name in discover.names(package):
            alone, whole = settings_alone(f"{package}.{name}"), discover.find(name)
            assert alone is not None, name
            ours, theirs = vars(alone)["Config"], vars(whole)["Config"]
            assert commented_yaml(ours()) == commented_yaml(theirs()), name
            assert [repr(e) for e in describe(ours)] == [repr(e) for e in describe(theirs)], name
            assert vars(alone).get("FAMILY") == vars(whole).get("FAMILY"), name
            assert alone.__name__.rpartition(".")[2] == name
            told += 1
    assert told > 40


def test_outside_of_it_a_method_is_its_module() -> None:
    whole = discover.find("dpo")
    with discover.for_settings():
        assert discover.find("dpo") is not whole
    assert discover.find("dpo") is whole
