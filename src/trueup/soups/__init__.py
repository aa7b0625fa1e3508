"""Rewarded soups: experts of several rewards mixed in weight space, chosen, measured and served.

    θ_w = θ_0 + Σ_i w_i (θ_i − θ_0)          w on the simplex

(Ramé et al. 2023.) `mix` and `adapters` make the mixtures, `pareto` and `fronts` say what a set of them is
worth, `search` looks for one, `picture` draws them.
"""
