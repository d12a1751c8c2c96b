"""Models' and adapters' files, and servers: are they whole, do they fit together, what are they by content?

Reads configurations and headers; loads no weights.
"""

from compatcheck.models.adapters import ACTIVATED, CONFIG, WEIGHTS, AdapterKind, check, kind_of, read_config

__all__ = ["ACTIVATED", "CONFIG", "WEIGHTS", "AdapterKind", "check", "kind_of", "read_config"]
