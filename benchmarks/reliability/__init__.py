"""Programs that try to lose, spoil or smuggle in something, and count what they achieve.

Each writes results/reliability/NAME.json (`outcome.write`); `python -m benchmarks.readme` makes SECURITY.md's table of
them. A short version of each is a test.
"""
