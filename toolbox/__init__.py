"""What the five files call by name: machinery that a learner may skip. It imports none of the
five."""
