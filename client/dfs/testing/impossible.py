"""What a tool of this package raises where this machine can't do it.

Its own module because everything here raises it and nothing here may need pytest: a test turns it into a skip.
"""


class Impossible(Exception):
    """This machine can't make that fault happen; the text says why, for a test to skip with."""
