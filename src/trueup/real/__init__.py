"""A world for a real model: requests whose answers rules can check, judges, demonstrations, a base.

The requests and their wordings are ours; instructions that can be verified are an idea of Zhou et al. 2023
(IFEval, arXiv 2311.07911). No name here needs torch until a model is made.
"""
