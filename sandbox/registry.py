"""Every provider the sandbox emulates: the one line that adding one takes."""

from .aigptimage import AIGPTImage
from .evolink import EvoLink
from .hiapi import HiAPI
from .provider import Provider
from .uniall import UniAll

PROVIDERS: tuple[type[Provider], ...] = (HiAPI, EvoLink, UniAll, AIGPTImage)
