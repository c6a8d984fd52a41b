"""The main job: train on the shots, predict the test photos, evaluate on labelled ones."""

from jclip_adapter.submission import check_target

from .benchmarking import Table, benchmark, photo_problems
from .evaluation import Evaluation, evaluate
from .extraction import extract
from .prediction import Guess, Prediction, classify, predict
from .stage import Stage, Trained, make_task, open_data, open_trained, set_up
from .support import choose_support, draw_support
from .training import Training, train

__all__ = [
    "Evaluation",
    "Guess",
    "Prediction",
    "Stage",
    "Table",
    "Trained",
    "Training",
    "benchmark",
    "check_target",
    "choose_support",
    "classify",
    "draw_support",
    "evaluate",
    "extract",
    "make_task",
    "open_data",
    "open_trained",
    "photo_problems",
    "predict",
    "set_up",
    "train",
]
