"""`python -m cdpbridge`: the `cdpbridge` command."""

from cdpbridge.cli import main

if __name__ == "__main__":
    main()
