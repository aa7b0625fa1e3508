"""Worlds: what a run is measured in. Prompts by split, judges by name, exams, and who labels."""

from trueup.worlds.doors import DEFAULT, Door, door_of, lead, leads_to
from trueup.worlds.find import open_world, where_model, written
from trueup.worlds.origin import came_from, truth_about, world_of
from trueup.worlds.world import Exams, World, thing_named

__all__ = [
    "DEFAULT",
    "Door",
    "Exams",
    "World",
    "came_from",
    "door_of",
    "lead",
    "leads_to",
    "open_world",
    "thing_named",
    "truth_about",
    "where_model",
    "world_of",
    "written",
]
