"""The list of emulated providers. A new provider is one more entry."""

from .aigptimage import EmulatedAIGPTImage
from .evolink import EmulatedEvoLink
from .fal import EmulatedFal
from .hiapi import EmulatedHiAPI
from .kie import EmulatedKie
from .provider import EmulatedProvider
from .replicate import EmulatedReplicate
from .uniall import EmulatedUniAll

PROVIDERS: tuple[type[EmulatedProvider], ...] = (
    EmulatedHiAPI,
    EmulatedEvoLink,
    EmulatedUniAll,
    EmulatedAIGPTImage,
    EmulatedReplicate,
    EmulatedKie,
    EmulatedFal,
)
