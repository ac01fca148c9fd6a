"""`python -m pipeline`."""

from pipeline.cli import main
from pipeline.utf8 import in_utf8

if __name__ == "__main__":
    in_utf8()
    main()
