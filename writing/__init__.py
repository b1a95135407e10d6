"""A model writes: which one, from where, how its texts come out, and a talk with it."""
