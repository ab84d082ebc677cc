"""The tasks by name. A new one is a file with its settings, its problem and its `Task`, and one line here."""

from ssmspec.training.classify import CLASSIFY
from ssmspec.training.denoise import DENOISE
from ssmspec.training.forecast import FORECAST
from ssmspec.training.regress import REGRESS
from ssmspec.training.task import Task
from ssmspec.training.waves import WAVES

TASKS: dict[str, Task] = {"waves": WAVES, "denoise": DENOISE, "regress": REGRESS, "classify": CLASSIFY, "forecast": FORECAST}
