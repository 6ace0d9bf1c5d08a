"""What experiment trackers read: each exporter turns the histories and records of runs into files, without a server."""
