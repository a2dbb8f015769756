"""The way of an instance through the service: intake, tasks, workers, release, delivery."""
