"""Training on the paper's data sets, or on videos of one's own: an experiment in a YAML file, a run in a folder.

dtfsal train EXPERIMENT.yaml --output RUN           docs/how-to/training.md is the guide
"""

from dtfsal.training.trainer.experiment import Experiment, read_experiment
from dtfsal.training.trainer.loop import train

__all__ = ["Experiment", "read_experiment", "train"]
