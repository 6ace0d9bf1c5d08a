"""Files and Zarr stores that are whole or not there, and how damage to them is found."""
