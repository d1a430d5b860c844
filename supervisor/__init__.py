"""preforkd: a pre-fork process supervisor for message workers. This module is the API for handlers.

It imports nothing heavy, as every process and every handler's test imports it.
"""

from supervisor.api import Message, Reject, Retry, SoftTimeout, record_group
from supervisor.message import Properties

__version__ = "0.1.0"

__all__ = ["Message", "Properties", "Reject", "Retry", "SoftTimeout", "__version__", "record_group"]
