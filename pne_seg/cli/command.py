"""fit, validate, test and predict: from settings to a finished run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from pne_seg.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    ExactResume,
    Figures,
    FiniteTraining,
    ImageScores,
    LabeledPixels,
    LastCheckpoint,
    StopOnSignal,
    Stopped,
    Summary,
)
from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.cli import predict
from pne_seg.cli.building import build_error, dropped_setting
from pne_seg.cli.checks import (
    FROM_DATA,
    check_against_data,
    check_numbers,
    check_processes,
    check_training,
)
from pne_seg.cli.evaluation import Evaluation
from pne_seg.cli.failures import is_out_of_memory, naming, one_line
from pne_seg.cli.memory import less_memory
from pne_seg.cli.parser import ALLOW_HELP, Parser
from pne_seg.cli.settings import Settings
from pne_seg.cli.start import (
    WEIGHTS_HELP,
    checkpoint_to_resume,
    run_name,
    weights_to_score,
    without_pretrained,
)
from pne_seg.data import SegmentationDataModule
from pne_seg.description import check_same_classes
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.module import SegmentationModule
from pne_seg.networks.slot import CLASS_COUNTS
from pne_seg.prediction.prediction_run import PredictionRun
from pne_seg.runs import RUNS, Evaluated, check_run_name, create_run, describe_environment
from pne_seg.weight_loading import fill_network

_DESCRIPTIONS = {
    "fit": "Train a network, and score it after every epoch.",
    "validate": "Score a trained network on the validation split.",
    "test": "Score a trained network on the test split.",
    "predict": predict.DESCRIPTION,
}

_GROUPS = ("trainer", "model", "figures", "best_checkpoint", "last_checkpoint")
"""Keys that hold settings by name, and no value or class."""


class SegmentationCLI(LightningCLI):
    """LightningCLI for one verb, with this project's rules for settings, data and run folders.

    Args:
        verb: `fit`, `validate`, `test` or `predict`.
        args: the settings, as on the command line.

    Attributes:
        checkpoint: the one that the verb starts from; None for a fresh training and for weights
            from elsewhere.
        evaluated: what an evaluation scores; None for a training.
        name: the run's name.
        run_folder: where the verb writes; None for a dry run (`--trainer.fast_dev_run`).

    Raises:
        UserError: a mistake in the settings or the data.
    """

    def __init__(self, verb: str, args: Sequence[str]) -> None:
        self.verb = verb
        self.run_folder: Path | None = None
        self.settings = Settings.of(args)
        self.evaluated: Evaluated | None = None
        self.checkpoint: Path | None = None
        if verb == "fit":
            self.checkpoint = checkpoint_to_resume(self.settings)
        elif evaluated := weights_to_score(self.settings):
            self.evaluated = evaluated
            self.checkpoint = evaluated.file if evaluated.source is None else None
        self.name = run_name(self.settings)
        if verb == "fit":
            check_run_name(self.name)
        self.prediction: PredictionRun | None = None
        if verb == "predict":
            self.output = predict.take_input(self.settings, self.evaluated)
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            subclass_mode_data=True,
            run=False,  # one parser for the one verb, in place of one for each
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            save_config_callback=None,  # the run folder is this project's own
            seed_everything_default=0,
            trainer_defaults={"log_every_n_steps": 10},
            parser_class=Parser,
            parser_kwargs={"prog": f"cli.py {verb}", "description": _DESCRIPTIONS[verb]},
            args=self.settings.arguments(),
        )

    # ---- settings ------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; the merged files are kept for suggestions in error messages."""
        assert isinstance(parser, Parser)
        # Before parsing: links into a group fail in other ways.
        for group in _GROUPS:
            given = self.settings.get(group)
            if group in self.settings.config and not isinstance(given, dict):
                raise UserError(
                    f"--{group} {given}: expected settings by name, as --help lists them. Leave "
                    "the key out for the defaults."
                )
        self.config = parser.parse(self.settings)
        self.config.pop("allow", None)  # holds for this command alone

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to every run, and let the data decide the classes."""
        parser.add_argument("--name", type=str | None, default=None, help="Name of the run.")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint: fit resumes from it, the other commands load it.",
        )
        parser.add_argument("--allow", type=str | None, help=ALLOW_HELP)
        if self.verb != "fit":
            parser.add_argument(
                "--run", type=str | None, help="Run folder: config and best weights."
            )
            parser.add_argument("--weights", type=str | None, help=WEIGHTS_HELP)
        if self.verb == "predict":
            predict.add_arguments(parser)
        parser.add_argument(
            "--ema",
            type=EMAWeightAveraging | None,
            default=None,
            help="Keep a moving average of the weights; it is what is scored and saved.",
        )
        parser.add_lightning_class_args(Figures, "figures")
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        for name in FROM_DATA:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        for name in CLASS_COUNTS:
            target = f"model.network.init_args.{name}"
            parser.link_arguments("data.num_classes", target, apply_on="instantiate")

    def instantiate_classes(self) -> None:
        """Build data, network and trainer.

        Raises:
            UserError: a class refuses its settings, or they contradict the data.
        """
        if not self.config.get("data.class_path"):
            raise UserError("Missing: data. Give a --config file that sets it, or --data CLASS.")
        check_numbers(self.config.as_dict())
        self.config["name"] = self.name
        self._as_written = self.config.clone()  # what the run's folder keeps
        if self.checkpoint is not None or self.evaluated is not None:
            without_pretrained(self.config["model.network"])
        network = _as_dict(self.config.get("model.network"))
        if dropped := dropped_setting(network, _as_dict(self.config["data"])):
            raise UserError(dropped)
        try:
            with self.settings.enforced():
                super().instantiate_classes()
        except Exception as error:
            if reason := build_error(error, network):
                raise reason from error
            raise

    # ---- the trainer and the run's folder ------------------------------------------------

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check the data, then build the trainer with what every run carries."""
        # Before a folder is made for a run that cannot start.
        check_against_data(self.settings, self.datamodule)
        check_processes(self.datamodule, self.config_init["trainer"])
        names = self.datamodule.class_names
        if self.checkpoint is not None:
            check_same_classes(names, read_checkpoint(self.checkpoint), self.checkpoint)
        if self.evaluated is not None and self.evaluated.source is not None:
            rank_zero_info(str(fill_network(self.model.network, self.evaluated.source, names)))
        self.datamodule.prepare_data()
        self.datamodule.setup(self.verb)
        config = {**self.config_init["trainer"], **kwargs}
        if self.verb == "fit":
            check_training(self.model, self.datamodule, config)
        callbacks = [*_as_list(config.get("callbacks"))]
        writes = not config["fast_dev_run"]
        if self.verb == "fit":
            if writes:
                config["logger"] = [self._open_run(), *_as_loggers(config["logger"])]
            averaging = _as_list(self.config_init["ema"])
            callbacks += [FiniteTraining(), LabeledPixels(), *averaging, *self._reporting()]
            callbacks += [ExactResume()]
            callbacks += self._checkpointing(config)
        else:
            config |= {"logger": False, "enable_checkpointing": False}
            assert self.evaluated is not None
            label = self.model.scorer.inference.label
            if self.verb != "predict":
                evaluation = Evaluation(self.verb, self.evaluated, self.config, label)
                if writes:
                    self.run_folder = evaluation.folder
                callbacks += [LabeledPixels(), *self._reporting(evaluation.origin)]
            elif writes:
                self.run_folder = self.output or self.evaluated.output(self.verb, label)
                self.prediction = predict.prepare(
                    self.config,
                    self.datamodule,
                    self.evaluated.file,
                    self.run_folder,
                    write_is_given=self.settings.get("write") is not None,
                )
                callbacks.append(self.prediction)
        plugins = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        return Trainer(**{**config, "callbacks": callbacks, "plugins": plugins})

    def _open_run(self) -> Logger:
        """Make the run's folder and write down what it is; returns the logger of `metrics.csv`."""
        root = Path(self.config_init["trainer"]["default_root_dir"] or ".")
        if this_rank() != 0:  # learns the folder from the first process, by Lightning's broadcast
            return CSVLogger(root / RUNS, name=self.name, version="0")
        run = create_run(root, self.name)
        logger = CSVLogger(root / RUNS, name=self.name, version=run.folder.name)
        _ = logger.experiment  # it warns of a folder that is not empty: open it first
        config = self.parser.dump(self._as_written, skip_unset=False)
        with naming(run.folder):
            write_bytes_atomically(run.config, config.encode())
            write_bytes_atomically(run.environment, describe_environment().encode())
        self.run_folder = run.folder
        rank_zero_info(f"Run: {run.folder}")
        return logger

    def _reporting(self, origin: dict[str, Any] | None = None) -> list[Callback]:
        figures, summary = self.config_init["figures"], Summary()
        summary.origin = origin or {}
        figures.folder = summary.folder = self.run_folder
        if self.verb != "test":
            return [figures, summary]
        images = ImageScores(min(figures.num_images, 4))
        images.folder = self.run_folder
        return [figures, summary, images]

    def _checkpointing(self, config: dict[str, Any]) -> list[Callback]:
        if config["fast_dev_run"] or config["enable_checkpointing"] is False:
            return [StopOnSignal(None)]
        last = self.config_init["last_checkpoint"]
        return [self.config_init["best_checkpoint"], last, StopOnSignal(last)]

    def less_memory(self, error: Exception) -> str:
        """What to set so that the verb takes less memory, in lines of flags."""
        trainer = self.config_init["trainer"] if self.verb == "fit" else None
        return less_memory(error, self.model, self.datamodule, trainer)

    # ---- the verb ------------------------------------------------------------------------

    def start(self) -> None:
        """Run the verb.

        Raises:
            UserError: the checkpoint does not fit, or the data or the loss is not as it must be.
            SystemExit: code 1 where a file could not be predicted; the others are.
            KeyboardInterrupt: the user stopped it.
        """
        checkpoint = self.checkpoint
        options: dict[str, Any] = {
            "datamodule": self.datamodule,
            "ckpt_path": str(checkpoint) if checkpoint else None,
            "weights_only": True,  # a checkpoint may come from anywhere: it must not run code
        }
        if self.verb in ("validate", "test"):
            options["verbose"] = False  # the summary prints the table
        prediction = self.prediction
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        stop = next((found for found in callbacks if isinstance(found, StopOnSignal)), None)
        if self.verb == "predict":
            options["return_predictions"] = False  # they would fill the memory
        if prediction is not None:
            options["datamodule"] = prediction.remaining()
        try:
            if prediction is None or prediction.left:
                getattr(self.trainer, self.verb)(self.model, **options)
        except UserError:
            raise
        except Exception as error:
            if stop is not None and stop.signum and self.trainer.world_size > 1:
                # A process that stopped in a validation leaves the others without a partner.
                raise Stopped(stop.signum, self.trainer.global_step, None) from error
            loading = bool(self.trainer._checkpoint_connector._loaded_checkpoint)
            if not loading or is_out_of_memory(error) or isinstance(error, OSError):
                raise
            # Lightning holds the checkpoint's content until all of it has been taken over.
            raise UserError(
                f"{checkpoint} does not fit the network and settings here, or is damaged: "
                f"{type(error).__name__}: {one_line(error)}\n"
                "  Use the config of the run that wrote it (--run takes both from one run), or "
                "another checkpoint."
            ) from error
        except SystemExit as leaving:
            # Lightning leaves with code 1, as for a file that could not be read.
            if isinstance(leaving.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from leaving
            raise
        if prediction is not None and this_rank() == 0:
            prediction.finish()
        if self.run_folder is not None:
            rank_zero_info(f"Written to {self.run_folder}")
        if prediction is not None and (prediction.unreadable or prediction.unwritten):
            raise SystemExit(1)


def this_rank() -> int:
    """Return this process's rank in a distributed run, before the processes are connected."""
    return int(getattr(rank_zero_only, "rank", 0))


def _as_dict(value: Any) -> dict[str, Any]:
    """A slot of the parsed configuration as plain dictionaries."""
    return dict(value.as_dict()) if isinstance(value, Namespace) else {}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _as_loggers(value: Any) -> list[Logger]:
    """The user's own loggers, which come beside the run's `metrics.csv`."""
    return [] if isinstance(value, bool) else _as_list(value)
