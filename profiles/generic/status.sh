#!/bin/sh
# Say of a Slurm job, by its number, what Snakemake wants to know: running, success or failed.
state=$(squeue --noheader --states=all --format=%T --jobs="$1" 2>&1)
case $state in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | RESIZING | REQUEUED | REQUEUE_HOLD | STAGE_OUT) echo running ;;
    # Slurm forgets jobs after a while (MinJobAge, five minutes unless set): nobody can tell how this one ended.
    "" | *"Invalid job id"* | BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT)
        echo failed ;;
    *) echo running ;;  # Slurm did not answer: ask again
esac
