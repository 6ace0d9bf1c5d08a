"""What a user may write, and what is wrong with it; read at parse time, so nothing here imports torch or OpenCV."""
