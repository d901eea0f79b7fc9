"""What the service costs and how fast it is, each figure beside its floor or a rival."""
