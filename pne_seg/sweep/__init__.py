"""Many runs as one experiment: arms, seeds, and the statistics of their differences."""
