"""The trainer verbs' own flags, and the classes whose arguments are settings.

Loads neither PyTorch nor Lightning, so that help and mistyped keys are answered at once.
"""

ALLOW_HELP = (
    "Module or package that settings may name classes and functions of, beside those of this "
    "project (and, in a config of your own, your modules); it may be given several times."
)
WEIGHTS_HELP = (
    "Weights from elsewhere, for the network of --config: a file, a folder, hf://OWNER/NAME or an "
    "address; mmsegmentation's, transformers' and smp's forms are known."
)

DESCRIPTIONS = {
    "fit": "Train a network, and score it after every epoch.",
    "validate": "Score a trained network on the validation split.",
    "test": "Score a trained network on the test split.",
    "predict": (
        "Write a trained network's predictions of images or videos, or of the data's test split, "
        "as PNG files\nof class indices, in color and laid over the images. The same command again "
        "resumes where it was\nstopped. Exit code 1 if a file could not be read, or its prediction "
        "not be written."
    ),
}

FLAGS = {
    "name": "Name of the run.",
    "ckpt_path": "Checkpoint: fit resumes from it, the other commands load it.",
    "allow": ALLOW_HELP,
}
EVALUATION_FLAGS = {"run": "Run folder: config and best weights.", "weights": WEIGHTS_HELP}
PREDICT_FLAGS = {
    "input": "An image, a video, a folder (with those below it) or a quoted glob such as "
    "'photos/**/*.jpg'. Without it the data's test split is predicted.",
    "output": "Folder for the predictions; RUN/predict/CHECKPOINT by default.",
    "write": "What to write: classes/NAME.png holds class indices, color/NAME.png the same with "
    "the data's colors, overlay/NAME.jpg these over the image (of a video: NAME.mp4, without "
    "sound, encoded from classes/NAME/FRAME.png, which are always written). classes.csv and "
    "legend.png say which index and color is which class.",
    "format": "Write what that benchmark's server takes, OUTPUT/NAME.png, and nothing else.",
    "overwrite": "Replace what predict wrote from other sources, weights or settings; other files "
    "never are.",
}
EMA_HELP = "Keep a moving average of the weights; it is what is scored and saved."

LOGGER_HELP = (
    "Where to log beside metrics.csv: tensorboard, wandb, mlflow, trackio; several as "
    "tensorboard,wandb."
)

GROUPS = {
    "trainer": "lightning.pytorch.Trainer",
    "model": "pne_seg.module.SegmentationModule",
    "figures": "pne_seg.callbacks.Figures",
    "suspects": "pne_seg.suspects.SuspectSearch",
    "best_checkpoint": "pne_seg.callbacks.BestCheckpoint",
    "last_checkpoint": "pne_seg.callbacks.LastCheckpoint",
}
"""Keys with the settings of one class."""
SLOTS = {
    "data": "pne_seg.data",
    "model.network": "pne_seg.networks",
    "model.loss": "pne_seg.losses",
    "model.contrast": "pne_seg.contrast.component",
    "model.auxiliary": "pne_seg.networks",
    "model.optimizer": "torch.optim",
    "model.schedule": "pne_seg.optim",
    "trainer.callbacks": "pne_seg.callbacks",
    "trainer.logger": "lightning.pytorch.loggers",
    "ema": "lightning.pytorch.callbacks",
}
"""Keys that take a class, and the module of classes that are named without theirs."""
DEFAULT_CLASSES = {
    "model.loss": "pne_seg.losses.CrossEntropy",
    "model.optimizer": "torch.optim.AdamW",
}
"""What `SegmentationModule` builds where a slot names no class: settings may stand without it."""
DEFAULT_SEED = 0


def flags(verb: str) -> dict[str, str]:
    """Return the flags of a trainer verb that take a text, with their descriptions."""
    return FLAGS if verb == "fit" else FLAGS | EVALUATION_FLAGS


def top_level_keys(verb: str) -> set[str]:
    """Return the first parts of a trainer verb's keys."""
    keys = {"config", "seed_everything", "ema", "logger", "data", *GROUPS, *flags(verb)}
    return keys | set(PREDICT_FLAGS) if verb == "predict" else keys
