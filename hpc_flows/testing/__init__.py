"""What tests of flows need: a home of their own, settings for a while, comparisons."""
