"""What the speed claims rest on: each figure beside its peers of the same run."""
