"""The numbers on the command line of a benchmark."""

import argparse

import click

from orchestrator.cli.number_options import WholeNumber


def one_or_more(text: str) -> int:
    """Return a number of things to measure.

    Raises:
        ArgumentTypeError: it is not. The message names the text and what is allowed.
    """
    try:
        return WholeNumber(1).convert(text, None, None)
    except click.BadParameter as error:
        raise argparse.ArgumentTypeError(error.message) from None
