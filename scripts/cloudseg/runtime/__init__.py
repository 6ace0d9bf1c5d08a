"""What every job's process needs: its log, watchdogs, devices, memory."""
