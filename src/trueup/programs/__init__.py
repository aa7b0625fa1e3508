"""Program-writing problems: reading them, and how many of them a policy solves."""
