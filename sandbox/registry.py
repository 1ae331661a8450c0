"""Every provider the sandbox emulates: the one line that adding one takes."""

from .evolink import EvoLink
from .hiapi import HiAPI
from .provider import Provider

PROVIDERS: tuple[type[Provider], ...] = (HiAPI, EvoLink)
