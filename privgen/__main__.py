"""`python -m privgen`."""

from privgen.cli import main

if __name__ == "__main__":
    main()
