"""The command line of pne_seg: `python cli.py VERB --config FILE [--key value …]`."""

from pne_seg.cli import main

if __name__ == "__main__":
    main()
