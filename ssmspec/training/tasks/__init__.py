"""The tasks by name. A new task is one file with its settings, its problem and its `Task`, and one line here."""

from ssmspec.training.task import Task
from ssmspec.training.tasks.audio import AUDIO
from ssmspec.training.tasks.classify import CLASSIFY
from ssmspec.training.tasks.denoise import DENOISE
from ssmspec.training.tasks.forecast import FORECAST
from ssmspec.training.tasks.image import IMAGE, SCIFAR
from ssmspec.training.tasks.listops import LISTOPS
from ssmspec.training.tasks.moving_mnist import MOVING_MNIST
from ssmspec.training.tasks.pathfinder import PATHFINDER, PATHX
from ssmspec.training.tasks.regress import REGRESS
from ssmspec.training.tasks.retrieval import RETRIEVAL
from ssmspec.training.tasks.text import TEXT
from ssmspec.training.tasks.waves import WAVES

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(WAVES, DENOISE),
        *(REGRESS, CLASSIFY, FORECAST),
        *(LISTOPS, TEXT, RETRIEVAL, IMAGE, PATHFINDER, PATHX),
        *(SCIFAR, MOVING_MNIST, AUDIO),
    )
}
