"""What a machine gives: cores, devices, processes, worker processes, Dask clusters."""
