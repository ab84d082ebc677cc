"""The tasks by name. A new one is a file with its settings, its problem and its `Task`, and one line here."""

from ssmspec.training.audio import AUDIO
from ssmspec.training.classify import CLASSIFY
from ssmspec.training.denoise import DENOISE
from ssmspec.training.forecast import FORECAST
from ssmspec.training.image import IMAGE, SCIFAR
from ssmspec.training.listops import LISTOPS
from ssmspec.training.moving_mnist import MOVING_MNIST
from ssmspec.training.pathfinder import PATHFINDER, PATHX
from ssmspec.training.regress import REGRESS
from ssmspec.training.retrieval import RETRIEVAL
from ssmspec.training.task import Task
from ssmspec.training.text import TEXT
from ssmspec.training.waves import WAVES

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(WAVES, DENOISE),
        *(REGRESS, CLASSIFY, FORECAST),
        *(LISTOPS, TEXT, RETRIEVAL, IMAGE, PATHFINDER, PATHX),
        *(SCIFAR, MOVING_MNIST, AUDIO),
    )
}
