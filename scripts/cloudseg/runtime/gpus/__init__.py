"""Which job computes on which device: leases by file locks that the kernel frees however a job dies."""
