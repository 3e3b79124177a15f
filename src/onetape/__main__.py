"""`python -m onetape` is `onetape`."""

from onetape.cli import main

if __name__ == "__main__":
    main()
