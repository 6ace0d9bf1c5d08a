"""Write the golden files anew from what the code does now: ``python tests/golden/regenerate.py``."""

import digests
import plans

if __name__ == "__main__":
    plans.regenerate()
    digests.regenerate()
