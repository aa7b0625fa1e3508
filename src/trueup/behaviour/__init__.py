"""How a policy behaves when it speaks for itself: toxicity, refusals, summaries, and all of it overridden."""
