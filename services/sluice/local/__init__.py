"""Everything on one machine: which processes run, with which settings, and what they need before they start."""
