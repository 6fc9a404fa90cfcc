"""`python -m afmiddleware`."""

from afmiddleware.cli import main

if __name__ == "__main__":
    main()
