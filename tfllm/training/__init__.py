"""Training around `model.fit`: one exact step, devices, checkpoints, monitoring."""
