"""`python -m orchestrator` is the `orchestrator` command of this interpreter's environment."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
